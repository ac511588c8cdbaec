#include "json.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "fault.h"
#include "sorting.h"

namespace binseg {
#ifdef __wasm__
double number_in_page(const char* text);  // web.cpp
#endif
namespace {

constexpr int kDeepest = 32;
constexpr int64_t kMostValues = 1 << 20;

class Reader {
 public:
  Reader(std::string_view text, const char* what) : text_(text), what_(what) {}

  Json all() {
    Json value = read(0);
    space();
    if (at_ != text_.size()) bad("something follows its end");
    return value;
  }

 private:
  std::string_view text_;
  const char* what_;
  size_t at_ = 0;
  int64_t values_ = 0;

  [[noreturn]] void bad(const char* why) const {
    fail(std::string(what_) + " is not valid JSON at byte " + std::to_string(at_) + ": " + why);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }
  void expect(char c) {
    if (peek() != c) bad("a character that does not belong there");
    ++at_;
  }
  bool taken(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json read(int depth) {
    if (depth > kDeepest) bad("nested deeper than 32");
    if (++values_ > kMostValues) bad("more than a million values");
    space();
    Json value;
    switch (peek()) {
      case '{':
      case '[':
        collect(value, depth);
        break;
      case '"':
        value.kind = Json::kString;
        value.at = at_ + 1;
        value.text = quoted();
        break;
      case 't':
      case 'f':
        value.kind = Json::kBool;
        value.truth = peek() == 't';
        if (!taken(value.truth ? "true" : "false")) bad("an unknown word");
        break;
      case 'n':
        if (!taken("null")) bad("an unknown word");
        break;
      default:
        value.kind = Json::kNumber;
        value.number = number();
    }
    return value;
  }

  void collect(Json& value, int depth) {
    const bool object = peek() == '{';
    const char close = object ? '}' : ']';
    value.kind = object ? Json::kObject : Json::kArray;
    ++at_;
    space();
    if (peek() == close) {
      ++at_;
      return;
    }
    for (;;) {
      if (object) {
        space();
        if (peek() != '"') bad("a key is missing");
        value.keys.push_back(quoted());
        space();
        expect(':');
      }
      value.items.push_back(read(depth + 1));
      space();
      if (peek() == close) break;
      expect(',');
    }
    ++at_;
    if (object) {
      std::vector<std::string_view> sorted(value.keys.begin(), value.keys.end());
      sort(sorted);
      if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        bad("a key that stands there twice");
    }
  }

  double number() {
    const size_t first = at_;
    if (peek() == '-') ++at_;
    const size_t whole = digits();
    if (whole == 0 || (whole > 1 && text_[at_ - whole] == '0')) bad("a value is missing");
    if (peek() == '.') {
      ++at_;
      if (digits() == 0) bad("a number without digits");
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (digits() == 0) bad("a number without digits");
    }
    if (at_ - first > 64) bad("a number of more than 64 characters");
    double result = 0;
#if defined(__wasm__)
    result = number_in_page(std::string(text_.substr(first, at_ - first)).c_str());
#elif defined(__cpp_lib_to_chars)
    const auto parsed = std::from_chars(text_.data() + first, text_.data() + at_, result);
    if (parsed.ec != std::errc()) bad("a number that is too large or too small");
#else  // libc++: its C library knows one locale alone
    result = std::strtod(std::string(text_.substr(first, at_ - first)).c_str(), nullptr);
#endif
    return result;
  }
  size_t digits() {
    const size_t first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ - first;
  }

  std::string quoted() {
    std::string to;
    expect('"');
    for (;;) {
      if (at_ >= text_.size()) bad("a string without an end");
      const char c = text_[at_];
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < 0x20) bad("a control character in a string");
      ++at_;
      if (c == '\\') {
        escaped(to);
      } else {
        to += c;
      }
    }
    ++at_;
    return to;
  }
  void escaped(std::string& to) {
    const char c = peek();
    ++at_;
    constexpr std::string_view from = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    if (const size_t i = from.find(c); i != from.npos) {
      to += meant[i];
    } else if (c == 'u') {
      uint32_t code = four_digits();
      if (code >= 0xD800 && code < 0xDC00 && taken("\\u")) {
        const uint32_t low = four_digits();
        if (low < 0xDC00 || low > 0xDFFF) bad("half a character");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      } else if (code >= 0xD800 && code < 0xE000) {
        bad("half a character");
      }
      append(to, code);
    } else {
      bad("an unknown escape");
    }
  }
  uint32_t four_digits() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) bad("an unknown escape");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    return code;
  }
  static void append(std::string& to, uint32_t code) {  // as UTF-8
    if (code < 0x80) {
      to += static_cast<char>(code);
    } else if (code < 0x800) {
      to += static_cast<char>(0xC0 | code >> 6);
      to += static_cast<char>(0x80 | (code & 63));
    } else if (code < 0x10000) {
      to += static_cast<char>(0xE0 | code >> 12);
      to += static_cast<char>(0x80 | (code >> 6 & 63));
      to += static_cast<char>(0x80 | (code & 63));
    } else {
      to += static_cast<char>(0xF0 | code >> 18);
      to += static_cast<char>(0x80 | (code >> 12 & 63));
      to += static_cast<char>(0x80 | (code >> 6 & 63));
      to += static_cast<char>(0x80 | (code & 63));
    }
  }
};

}  // namespace

const Json* Json::get(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key) return &items[i];
  return nullptr;
}

Json read_json(std::string_view text, const char* what) { return Reader(text, what).all(); }

}  // namespace binseg
