// AuthenticationThrottleTests: how long refusals wait, and that it costs the one who fails, not the user who is tried.

import MillraceBase
import Testing

@testable import MillraceSecurity

private func after(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

@Test("the first failures wait 100 ms, then each twice as long, at most 5 s")
func growingDelay() {
  var throttle = AuthenticationThrottle()
  let delays = (0..<12).map { _ in throttle.failed(address: "10.0.0.1", user: "alice", at: after(0)) }
  #expect(delays.map(\.inMilliseconds) == [100, 100, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000])
  for _ in 0..<1000 { #expect(throttle.failed(address: "10.0.0.1", user: nil, at: after(0)) == .seconds(5)) }
  #expect(throttle.failures(ofAddress: "10.0.0.1", at: after(0)) == 1012)
  #expect(throttle.failures(ofUser: "alice", at: after(0)) == 12)
}

@Test("strangers who try a user's name from many addresses do not delay that user elsewhere")
func userIsNotDelayed() {
  var throttle = AuthenticationThrottle()
  for number in 0..<5000 {
    let delay = throttle.failed(address: "10.1.\(number / 250).\(number % 250)", user: "alice", at: after(0))
    #expect(delay == .milliseconds(100))
  }
  #expect(throttle.failures(ofUser: "alice", at: after(0)) == 5000)
  // The user mistypes once.
  #expect(throttle.failed(address: "10.0.0.1", user: "alice", at: after(1)) == .milliseconds(100))
}

@Test("after its time without a failure an address begins anew; before, it does not")
func forgets() {
  var throttle = AuthenticationThrottle()
  for _ in 0..<8 { _ = throttle.failed(address: "a", user: "u", at: after(0)) }
  #expect(throttle.failed(address: "a", user: "u", at: after(599)) == .seconds(5))
  // From the last failure on.
  #expect(throttle.failures(ofAddress: "a", at: after(1198)) == 9)
  #expect(throttle.failures(ofAddress: "a", at: after(1199)) == 0)
  #expect(throttle.failures(ofUser: "u", at: after(1199)) == 0)
  #expect(throttle.failed(address: "a", user: "u", at: after(1199)) == .milliseconds(100))
}

@Test("memory is bounded, and who fails all the time is remembered while others come and go")
func boundedEntries() {
  var limits = AuthenticationThrottle.Limits()
  limits.entries = 100
  var throttle = AuthenticationThrottle(limits)
  for number in 0..<10_000 {
    _ = throttle.failed(address: "address \(number)", user: "user \(number)", at: after(0))
    if number % 10 == 0 { _ = throttle.failed(address: "constant", user: nil, at: after(0)) }
    #expect(throttle.entryCount <= 200)
  }
  #expect(throttle.failures(ofAddress: "constant", at: after(0)) == 1000)
  #expect(throttle.failures(ofAddress: "address 0", at: after(0)) == 0)
  #expect(throttle.failures(ofAddress: "address 9999", at: after(0)) == 1)
  // A name of any length takes a bounded place.
  let long = String(repeating: "x", count: 1 << 20)
  _ = throttle.failed(address: long, user: long, at: after(0))
  #expect(throttle.failures(ofUser: long, at: after(0)) == 1)
  #expect(throttle.failures(ofUser: String(repeating: "x", count: 256), at: after(0)) == 1)
}

@Test("of IPv6 a network of 64 bits is one address, and IPv4 is the same in both forms")
func networks() {
  let network = AuthenticationThrottle.network
  #expect(network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::1"))
  #expect(network("2001:db8:1:2::1") != network("2001:db8:1:3::1"))
  #expect(network("fe80::1%eth0") == network("fe80::2"))
  #expect(network("::ffff:10.0.0.1") == "10.0.0.1" && network("10.0.0.1") == "10.0.0.1")
  #expect(network("10.0.0.1") != network("10.0.0.2"))
  #expect(network("not an address") == "not an address" && network("") == "")
}
