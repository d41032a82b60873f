// Pages: rounding to whole pages of a file, whose size is a power of two only where the file is not encrypted.

import MillraceIO

extension BinaryInteger {
  /// The largest multiple of `page` that is not larger.
  func roundedDown(to page: Int) -> Self { self - self % Self(page) }
  /// The smallest multiple of `page` that is not smaller.
  func roundedUp(to page: Int) -> Self { (self + Self(page) - 1).roundedDown(to: page) }
}
