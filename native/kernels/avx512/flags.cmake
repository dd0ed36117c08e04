# What each file here is compiled for; on other processors they are empty.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(here native/kernels/avx512)
  set(exact "-O3;-ffp-contract=off") # the same bits from every compiler
  set_source_files_properties(${here}/products.cpp PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mf16c;${exact};-Wno-maybe-uninitialized")
  set_source_files_properties(${here}/products_bf16.cpp PROPERTIES COMPILE_OPTIONS "-mavx512f;-mfma;${exact}")
  set_source_files_properties(${here}/sampler.cpp PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512dq;-mavx512cd;-mfma;${exact}")
  set_source_files_properties(${here}/attention.cpp PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512dq;-mfma;-mf16c;${exact};-Wno-maybe-uninitialized")
endif()
