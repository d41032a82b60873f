// Secret+Readable: passwords that the program makes and a person copies.

extension Secret {
  private static let crockford = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)

  /// A new password of 128 unpredictable bits: 26 characters of Crockford's base 32, which has no I, L, O and U.
  public static func readable() -> Secret { readable(random(count: 16)) }

  /// The 26 characters that stand for 16 bytes, highest bits first; the first character stands for three bits.
  static func readable(_ bits: Secret) -> Secret {
    precondition(bits.count == 16, "\(bits.count) bytes")
    return Secret(count: 26) { out in
      bits.withBytes { bytes in
        for index in 0..<26 {
          // 130 bits, the highest two of them zero.
          var digit = 0
          for bit in (5 * index)..<(5 * index + 5) {
            let at = bit - 2
            digit = digit << 1 | (at < 0 ? 0 : Int(bytes[at / 8] >> UInt8(7 - at % 8)) & 1)
          }
          out[index] = crockford[digit]
        }
      }
    }
  }
}
