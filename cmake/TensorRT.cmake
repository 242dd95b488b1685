# Decides whether csrc/diffusion runs TensorRT engines, and says so in LPNODE_TENSORRT_SUMMARY.
set(LPNODE_HAS_TENSORRT OFF)
set(LPNODE_TENSORRT_SUMMARY "off")
if(NOT LPNODE_TENSORRT STREQUAL "OFF")
  if(POLICY CMP0144)
    cmake_policy(SET CMP0144 NEW) # TENSORRT_ROOT, as everybody writes it, is looked at
  endif()
  list(APPEND CMAKE_MODULE_PATH "${PROJECT_SOURCE_DIR}/cmake")
  find_package(TensorRT 10.1 QUIET)
  find_package(CUDAToolkit QUIET)
  if(TensorRT_FOUND AND CUDAToolkit_FOUND)
    set(LPNODE_HAS_TENSORRT ON)
    set(LPNODE_TENSORRT_SUMMARY "on (${TensorRT_VERSION})")
  elseif(LPNODE_TENSORRT STREQUAL "ON")
    message(FATAL_ERROR
      "LPNODE_TENSORRT=ON but TensorRT 10.1 or newer was not found "
      "(headers: ${TensorRT_INCLUDE_DIR}, library: ${TensorRT_LIBRARY}, CUDA toolkit: ${CUDAToolkit_FOUND}); set TENSORRT_ROOT to the "
      "folder that has include/NvInferRuntime.h and lib/, or configure with LPNODE_TENSORRT=OFF")
  endif()
endif()
