// SecretTests: a secret shows nothing of itself, in whatever way it is printed.

import MillraceSecurity
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
