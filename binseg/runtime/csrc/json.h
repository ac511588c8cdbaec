// A reader of JSON for untrusted text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace binseg {

struct Json {
  enum Kind { kNull, kBool, kNumber, kString, kArray, kObject } kind = kNull;
  bool truth = false;
  double number = 0;
  std::string text;               // of a string
  size_t at = 0;                  // where its text begins in what was read
  std::vector<Json> items;        // of an array or object
  std::vector<std::string> keys;  // of an object; no two are equal

  const Json* get(std::string_view key) const;
};

// Fails on anything that is not JSON, on nesting deeper than 32, on more than a million values, and
// on a key that an object has twice. `what` names the text in the error.
Json read_json(std::string_view text, const char* what);

}  // namespace binseg
