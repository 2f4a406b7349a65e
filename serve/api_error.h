// SPDX-License-Identifier: Apache-2.0
// Errors as OpenAI's clients expect them: {"error": {message, type, param, code}}, all four keys
// always there, param and code null when they do not apply.
#pragma once

#include <stdexcept>
#include <string>

#include "serve/http.h"

namespace llmctl::serve {

struct ApiError : std::runtime_error {
  // param or code "" is sent as null.
  ApiError(int http_status, const std::string& message, std::string param_name = {},
           std::string code_name = {})
      : std::runtime_error(message),
        status(http_status),
        param(std::move(param_name)),
        code(std::move(code_name)) {}
  int status;
  std::string param, code;
};

// 400: understood, not offered by this server.
ApiError unsupported(const std::string& param, const std::string& what);

std::string error_body(const ApiError& error);
HttpResponse error_response(const ApiError& error);
// The project's Error as a response: bad input is the client's fault, the rest is ours.
ApiError api_error_of(const Error& error);

}  // namespace llmctl::serve
