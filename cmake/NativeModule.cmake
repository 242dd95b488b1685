# lpnode_compile_options(target): warnings, sanitizers and include root shared by all native code.
function(lpnode_compile_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LPNODE_WERROR}>>:-Werror>)
  target_include_directories(${target} PUBLIC "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}")
  if(LPNODE_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${LPNODE_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${LPNODE_SANITIZE})
  endif()
  if(LPNODE_FUZZERS)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# lpnode_native_module(name SOURCES a.cpp b.cpp): the library lpnode_<name>, which never includes
# nanobind, and the extension lpnode/_native/<name> built from bindings.cpp in the same folder.
function(lpnode_native_module name)
  cmake_parse_arguments(arg "" "" "SOURCES" ${ARGN})
  add_library(lpnode_${name} STATIC ${arg_SOURCES})
  lpnode_compile_options(lpnode_${name})
  if(NOT LPNODE_BINDINGS)
    return()
  endif()
  nanobind_add_module(${name} STABLE_ABI NB_STATIC NB_DOMAIN lpnode bindings.cpp)
  target_link_libraries(${name} PRIVATE lpnode_${name})
  # nanobind's own headers are not ours to keep free of warnings.
  target_compile_options(${name} PRIVATE -Wall -Wextra)
  install(TARGETS ${name} LIBRARY DESTINATION lpnode/_native)
endfunction()
