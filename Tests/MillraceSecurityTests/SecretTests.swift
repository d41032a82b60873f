// SecretTests: a secret shows nothing of itself, in whatever way it is printed.

@testable import MillraceSecurity
import Testing

@Test("no way of printing shows a secret")
func printsNothing() {
  let secret = Secret("open sesame")
  var dumped = ""
  dump(secret, to: &dumped)
  for text in ["\(secret)", String(describing: secret), String(reflecting: secret), dumped, "\([secret])"] {
    #expect(!text.contains("sesame"))
  }
  #expect("\(secret)" == "(secret)")
}

@Test("secrets are equal when their bytes are")
func equality() {
  #expect(Secret("a") == Secret([0x61]))
  #expect(Secret("a") != Secret("b"))
  #expect(Secret("a") != Secret("aa"))
  #expect(Secret("") == Secret([]))
  #expect(Secret.random(count: 16) != Secret.random(count: 16))
  #expect(Secret.random(count: 16).count == 16)
}

@Test("a readable secret is 26 characters that nobody mistakes, and never the same")
func readable() {
  var seen: Set<String> = []
  for _ in 0..<100 {
    let text = String(decoding: Secret.readable().copy, as: UTF8.self)
    #expect(text.utf8.count == 26)
    #expect(text.allSatisfy { "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains($0) })
    #expect(seen.insert(text).inserted)
  }
  // Each place but the first, which stands for three bits, takes many values.
  for place in 0..<26 {
    let values = Set(seen.map { $0[$0.index($0.startIndex, offsetBy: place)] })
    #expect(place == 0 ? values.isSubset(of: Set("01234567")) : values.count > 16)
  }
}

@Test("golden: 128 bits as Crockford's base 32")
func goldenReadable() {
  func text(_ bytes: [UInt8]) -> String { String(decoding: Secret.readable(Secret(bytes)).copy, as: UTF8.self) }
  #expect(text(Array(repeating: 0, count: 16)) == "00000000000000000000000000")
  #expect(text(Array(repeating: 0xff, count: 16)) == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
  // The lowest bit, and the highest.
  #expect(text(Array(repeating: 0, count: 15) + [1]) == "00000000000000000000000001")
  #expect(text([0x80] + Array(repeating: 0, count: 15)) == "40000000000000000000000000")
}
