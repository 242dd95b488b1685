# Finds TensorRT's headers and its runtime library, version 10.1 or newer. Looks in TENSORRT_ROOT (a
# CMake or environment variable), in the folders of the wheels that the build's Python has, and in
# the system's own. Sets TensorRT_FOUND, TensorRT_VERSION and the target TensorRT::nvinfer.
set(_tensorrt_roots "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}")
if(Python_EXECUTABLE)
  # `pip install tensorrt` keeps the libraries in tensorrt_libs; headers, where a wheel has them,
  # are beside them.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.util, os; print(os.path.dirname(importlib.util.find_spec('tensorrt_libs').origin))"
    OUTPUT_VARIABLE _tensorrt_wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND _tensorrt_roots "${_tensorrt_wheel}")
endif()

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${_tensorrt_roots}
  PATHS /usr /usr/local /usr/local/cuda /opt/tensorrt
  PATH_SUFFIXES include include/${CMAKE_LIBRARY_ARCHITECTURE})
# A wheel's library has a version behind its name and no link without one.
find_library(TensorRT_LIBRARY
  NAMES nvinfer libnvinfer.so.11 libnvinfer.so.10
  HINTS ${_tensorrt_roots}
  PATHS /usr /usr/local /usr/local/cuda /opt/tensorrt
  PATH_SUFFIXES lib lib64 lib/${CMAKE_LIBRARY_ARCHITECTURE})

if(TensorRT_INCLUDE_DIR AND EXISTS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
  # The numbers are plain, or names of other macros with the numbers.
  file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" _tensorrt_lines
       REGEX "#define +(NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH)[A-Z_]* +[0-9]+")
  set(_tensorrt_numbers "")
  foreach(_tensorrt_part MAJOR MINOR PATCH)
    foreach(_tensorrt_line IN LISTS _tensorrt_lines)
      if(_tensorrt_line MATCHES "(NV_TENSORRT|TRT)_${_tensorrt_part}(_ENTERPRISE)? +([0-9]+)")
        list(APPEND _tensorrt_numbers "${CMAKE_MATCH_3}")
        break()
      endif()
    endforeach()
  endforeach()
  string(REPLACE ";" "." TensorRT_VERSION "${_tensorrt_numbers}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS TensorRT_LIBRARY TensorRT_INCLUDE_DIR
  VERSION_VAR TensorRT_VERSION)
mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY)

if(TensorRT_FOUND AND NOT TARGET TensorRT::nvinfer)
  add_library(TensorRT::nvinfer UNKNOWN IMPORTED)
  set_target_properties(TensorRT::nvinfer PROPERTIES
    IMPORTED_LOCATION "${TensorRT_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}")
endif()
