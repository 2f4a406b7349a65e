// SPDX-License-Identifier: Apache-2.0
#include "serve/api_error.h"

#include "serve/body.h"

namespace llmctl::serve {

ApiError unsupported(const std::string& param, const std::string& what) {
  return ApiError(400, what, param, "unsupported");
}

std::string error_body(const ApiError& e) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  const char* type = e.status == 401   ? "authentication_error"
                     : e.status >= 500 ? "server_error"
                                       : "invalid_request_error";
  return to_text(Json{
      {"error",
       {{"message", e.what()}, {"type", type}, {"param", or_null(e.param)}, {"code", or_null(e.code)}}}});
}

HttpResponse error_response(const ApiError& e) {
  HttpResponse response;
  response.status = e.status;
  response.body = error_body(e);
  if (e.status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
  if (e.status == 503) response.headers.emplace_back("retry-after", "1");
  return response;
}

ApiError api_error_of(const Error& e) {
  switch (e.code) {
    case Code::usage:
    case Code::input:
      return ApiError(400, e.what());
    case Code::unsupported:
      return ApiError(400, e.what(), {}, "unsupported");
    case Code::memory:
      return ApiError(503, e.what(), {}, "out_of_memory");
    default:
      return ApiError(500, e.what());
  }
}

}  // namespace llmctl::serve
