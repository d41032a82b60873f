// PasswordCheckTests: passwords that were right lately, and those that are being checked beside the reactor.

import MillraceBase
import MillraceSecurity
import Testing

private func credentials(_ user: String, _ password: String) throws -> PlainCredentials {
  try PlainCredentials(user: user, password: Secret(password))
}

/// A credential that costs nothing: what it is of does not matter here.
private func credential(_ number: Int = 0) -> ScramCredential {
  .standIn(for: "user \(number)", mechanism: .sha256, key: Secret("sixteen bytes or more"))
}

private func after(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

@Test("a password that was right is known for its time, for its user and its credential alone")
func knownForItsTime() throws {
  var verified = VerifiedPasswords(lifetime: .seconds(600))
  let alice = try credentials("alice", "pencil")
  #expect(!verified.contains(alice, for: credential(), at: after(0)))
  verified.insert(alice, for: credential(), at: after(0))
  #expect(verified.contains(alice, for: credential(), at: after(0)))
  #expect(verified.contains(alice, for: credential(), at: after(599)))
  #expect(!verified.contains(alice, for: credential(), at: after(600)))
  // Another password, another user, another credential: that of a changed password.
  #expect(!verified.contains(try credentials("alice", "pencils"), for: credential(), at: after(1)))
  #expect(!verified.contains(try credentials("bob", "pencil"), for: credential(), at: after(1)))
  #expect(!verified.contains(alice, for: credential(1), at: after(1)))
  verified.removeAll()
  #expect(!verified.contains(alice, for: credential(), at: after(1)))
}

@Test("no more passwords are kept than allowed; the oldest go, and those whose time is over")
func boundedPasswords() throws {
  var verified = VerifiedPasswords(limit: 10, lifetime: .seconds(600))
  let all = try (0..<100).map { try credentials("user\($0)", "x") }
  for (number, one) in all.enumerated() {
    verified.insert(one, for: credential(), at: after(Int64(number)))
    #expect(verified.count <= 10)
  }
  for (number, one) in all.enumerated() {
    #expect(verified.contains(one, for: credential(), at: after(100)) == (number >= 90), "\(number)")
  }
  verified.insert(all[0], for: credential(), at: after(10_000))
  #expect(verified.count == 1)
  // One that comes again and again takes one place, and its last time counts.
  for second in 0..<100 { verified.insert(all[0], for: credential(), at: after(10_000 + Int64(second))) }
  #expect(verified.count == 1)
  #expect(verified.contains(all[0], for: credential(), at: after(10_690)))
}

@Test("two processes keep other marks of the same password")
func marksAreOfThisProcess() throws {
  var first = VerifiedPasswords()
  let second = VerifiedPasswords()
  first.insert(try credentials("alice", "pencil"), for: credential(), at: after(0))
  #expect(!second.contains(try credentials("alice", "pencil"), for: credential(), at: after(0)))
  var dumped = ""
  dump(first, to: &dumped)
  #expect(!dumped.contains("pencil") && !dumped.contains("alice"))
}

@Test("the same password is checked once for everybody who gives it, and then known")
func checkedOnce() throws {
  var checks = PasswordChecks<String>()
  let alice = try credentials("alice", "pencil")
  #expect(checks.ask(alice, credential(), isKnown: true, "first", at: after(0)) == .check(1))
  #expect(checks.ask(alice, credential(), isKnown: true, "second", at: after(0)) == .waiting)
  #expect(checks.ask(try credentials("alice", "x"), credential(), isKnown: true, "wrong", at: after(0)) == .check(2))
  #expect(checks.work(1)?.password == Secret("pencil"))
  #expect(checks.work(2)?.credential == credential())
  let wrong = checks.end(2, isRight: false, at: after(1))
  #expect(wrong.waiters == ["wrong"] && !wrong.isVerified)
  let right = checks.end(1, isRight: true, at: after(1))
  #expect(right.waiters == ["first", "second"] && right.isVerified)
  #expect(checks.count == 0 && checks.work(1) == nil)
  #expect(checks.ask(alice, credential(), isKnown: true, "third", at: after(2)) == .verified)
  // A changed password makes another credential.
  #expect(checks.ask(alice, credential(1), isKnown: true, "fourth", at: after(2)) == .check(3))
  // What was wrong is checked again.
  #expect(checks.ask(try credentials("alice", "x"), credential(), isKnown: true, "w", at: after(2)) == .check(4))
}

@Test("whoever does not exist is checked for its time, and never verified")
func unknownIsChecked() throws {
  var checks = PasswordChecks<Int>()
  let nobody = try credentials("nobody", "x")
  #expect(checks.ask(nobody, credential(), isKnown: false, 1, at: after(0)) == .check(1))
  // Not even together with somebody who came to exist meanwhile, nor when a thread says yes.
  #expect(checks.ask(nobody, credential(), isKnown: true, 2, at: after(0)) == .check(2))
  #expect(!checks.end(1, isRight: true, at: after(0)).isVerified)
  #expect(checks.ask(nobody, credential(), isKnown: false, 3, at: after(0)) == .check(3))
}

@Test("beyond so many checks, or clients that wait, further ones are told that the server is busy")
func boundedChecks() throws {
  var checks = PasswordChecks<Int>(limit: 2, waiterLimit: 4)
  func ask(_ password: String, _ waiter: Int) throws -> PasswordChecks<Int>.Answer {
    checks.ask(try credentials("alice", password), credential(), isKnown: true, waiter, at: after(0))
  }
  #expect(try ask("a", 1) == .check(1))
  #expect(try ask("b", 2) == .check(2))
  #expect(try ask("c", 3) == .busy)
  #expect(try ask("a", 4) == .waiting)
  #expect(try ask("a", 5) == .waiting)
  #expect(try ask("a", 6) == .busy)
  #expect(checks.end(1, isRight: true, at: after(0)).waiters == [1, 4, 5])
  #expect(try ask("a", 7) == .verified)
  #expect(try ask("c", 8) == .check(3))
}
