// Words: cuts text into lower-cased words.
//
// A word is a maximal run of letters and digits: scalars whose general category is L* or Nd. Each scalar of a word is
// lower-cased by its full lower-case mapping, without regard to its neighbours. Bytes that are not valid UTF-8 act as
// U+FFFD, which is no letter, so they separate words.

import MillraceDataflow

/// Makes words of record values.
public struct Words: FlatTransform {
  /// The cutter.
  @inlinable public init() {}

  /// Hands on each word of the record's value, lower-cased, in order. The bytes are lent for the call only.
  @inlinable @inline(__always)
  public func apply(_ input: InputRecord, _ emit: (BorrowedBytes) -> Void) {
    Words.forEach(in: input.valueBuffer) { emit(BorrowedBytes($0)) }
  }

  /// Calls `body` with each word of `text`, lower-cased. The bytes are valid inside `body` only.
  /// - Complexity: O(bytes), one pass; ASCII needs no decoding.
  @inlinable @inline(__always)
  public static func forEach(in text: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard let start = text.baseAddress, text.count > 0 else { return }
    // Lower-casing may lengthen: U+0130 and U+023A grow from two bytes to three, nothing grows by more than half.
    withUnsafeTemporaryAllocation(byteCount: text.count + text.count / 2 + 16, alignment: 8) { scratch in
      guard let word = scratch.baseAddress else { return }
      let classes = WordClasses.ascii
      var length = 0
      var at = 0
      while at < text.count {
        let byte = start.load(fromByteOffset: at, as: UInt8.self)
        let kind = classes[Int(byte)]
        if kind > 1 {
          word.storeBytes(of: kind, toByteOffset: length, as: UInt8.self)
          length &+= 1
          at &+= 1
        } else if kind == WordClasses.separator {
          if length > 0 {
            body(UnsafeRawBufferPointer(start: word, count: length))
            length = 0
          }
          at &+= 1
        } else {
          let scalar = WordClasses.scalar(text, at, word + length)
          at &+= scalar.consumed
          if scalar.written > 0 {
            length &+= scalar.written
          } else if length > 0 {
            body(UnsafeRawBufferPointer(start: word, count: length))
            length = 0
          }
        }
      }
      if length > 0 { body(UnsafeRawBufferPointer(start: word, count: length)) }
    }
  }
}
