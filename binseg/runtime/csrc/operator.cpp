#include "operator.h"

#include <algorithm>

namespace binseg {

void Planner::set_size(int id, int64_t height, int64_t width) {
  if (height < 1 || width < 1) fail("the image is too small for this network");
  if (height > kLargestSide || width > kLargestSide || times(height, width) > kMostPixels)
    fail("the image is too large for this network");
  Value& v = value(id);
  v.height = height;
  v.width = width;
}

bool Planner::ask_border(int id, int64_t left, int64_t right, const std::vector<uint8_t>& pixel) {
  if (left == 0 && right == 0) return true;
  Border& border = value(id).border;
  if (!border.pixel.empty() && border.pixel != pixel) return false;
  border.pixel = pixel;
  border.left = std::max(border.left, left);
  border.right = std::max(border.right, right);
  return true;
}

bool Planner::lies_inside(const Part& part) const {
  const Part& found = parts[static_cast<size_t>(part.value)];
  return found.whole == part.whole && found.channel == part.channel;
}

void Planner::ask_scratch(int64_t of_all, int64_t of_thread) {
  scratch_of_all = std::max(scratch_of_all, of_all);
  scratch_of_thread = std::max(scratch_of_thread, of_thread);
}

}  // namespace binseg
