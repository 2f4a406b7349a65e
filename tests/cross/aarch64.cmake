# SPDX-License-Identifier: Apache-2.0
# Debian's cross compiler, and qemu-user for what it makes. -DLLMCTL_SYSROOT is the folder into which
# tests/cross/run unpacked the libraries; headers without code are the host's.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LLMCTL_SYSROOT)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_FLAGS_INIT "-isystem ${LLMCTL_SYSROOT}/usr/include -isystem ${LLMCTL_SYSROOT}/usr/include/aarch64-linux-gnu")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT}")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${LLMCTL_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
set(Boost_NO_BOOST_CMAKE ON)  # its package files are the host's alone
set(ENV{PKG_CONFIG_LIBDIR} ${LLMCTL_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
