"""The runtime: a C++ library that runs programs, and its Python door."""
