// WordsTests: what a word is, against a slow recount by Swift's own text.

import MillraceBase
import MillraceStreams
import Testing

private func words(_ bytes: [UInt8]) -> [String] {
  var out: [String] = []
  bytes.withUnsafeBytes { Words.forEach(in: $0) { out.append(String(decoding: $0, as: UTF8.self)) } }
  return out
}

private func words(_ text: String) -> [String] { words(Array(text.utf8)) }

/// The definition, word for word, with Swift's decoder.
private func naive(_ bytes: [UInt8]) -> [String] {
  var out: [String] = []
  var word = ""
  for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber:
      word += scalar.properties.lowercaseMapping
    default:
      if !word.isEmpty { out.append(word) }
      word = ""
    }
  }
  if !word.isEmpty { out.append(word) }
  return out
}

@Test("words are maximal runs of letters and digits, lower-cased")
func wordCases() {
  #expect(words("") == [])
  #expect(words("  ,.;") == [])
  #expect(words("Hello, World!") == ["hello", "world"])
  #expect(words("don't x_y a-b 3.14 v2") == ["don", "t", "x", "y", "a", "b", "3", "14", "v2"])
  #expect(words("ÄRGER über Straße") == ["ärger", "über", "straße"])
  #expect(words("ΣΊΣΥΦΟΣ") == ["σίσυφοσ"])
  #expect(words("Москва 東京 ١٢٣") == ["москва", "東京", "١٢٣"])
  #expect(words("İstanbul") == ["i\u{307}stanbul"])
  #expect(words("ȺȺȺȺȺȺȺȺ") == ["ⱥⱥⱥⱥⱥⱥⱥⱥ"])
  #expect(words("½ ² Ⅷ e\u{301}a") == ["e", "a"])
  #expect(words("𝒳𐐀 end") == ["𝒳𐐨", "end"])
}

@Test("bytes that are not UTF-8 separate words")
func invalidBytesSeparate() {
  #expect(words([0x61, 0xff, 0x62]) == ["a", "b"])
  #expect(words([0x61, 0xc3]) == ["a"])
  #expect(words([0xe2, 0x82, 0x41]) == ["a"])
  #expect(words([0xf0, 0x90, 0x41, 0x42]) == ["ab"])
  #expect(words([0xc0, 0x80, 0x61, 0xed, 0xa0, 0x80, 0x62, 0xf4, 0x90, 0x80, 0x80, 0x63]) == ["a", "b", "c"])
  #expect(words([0xc3, 0xa9, 0xe0, 0x80, 0xc3, 0xa9]) == ["é", "é"])
}

@Test("agrees: every Unicode scalar, alone and inside a word, is treated as the definition says")
func everyScalarAgrees() {
  var line: [UInt8] = []
  func compare() {
    let expected = naive(line)
    if words(line) != expected { #expect(words(line) == expected) }
    line.removeAll(keepingCapacity: true)
  }
  for value in UInt32(0)...0x10ffff {
    guard let scalar = Unicode.Scalar(value) else { continue }
    line += Array("Q".utf8) + Array(String(Character(scalar)).utf8) + Array("z ".utf8)
    if line.count > 4000 { compare() }
  }
  compare()
}

@Test("agrees: random bytes, valid and not, with the definition")
func randomBytesAgree() {
  let parts: [[UInt8]] = [
    Array("a".utf8), Array("Z".utf8), Array("9".utf8), Array(" ".utf8), Array("é".utf8), Array("İ".utf8),
    Array("東".utf8), Array("𝒳".utf8), [0x80], [0xbf], [0xc3], [0xe0], [0xe2, 0x82], [0xed], [0xf0, 0x90], [0xf4],
    [0xff],
  ]
  for seed in UInt64(1)...3000 {
    var random = SeededRandom(seed: seed)
    let line = (0..<Int.random(in: 0...30, using: &random)).flatMap { _ in parts.randomElement(using: &random) ?? [] }
    let expected = naive(line)
    if words(line) != expected { #expect(words(line) == expected, "seed \(seed): \(line)") }
  }
}
