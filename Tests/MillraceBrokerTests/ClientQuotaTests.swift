// ClientQuotaTests: which limit holds for whom, how long one waits, and what that comes to over time.

import MillraceBase
import MillraceMetadata
import Testing

@testable import MillraceBroker

private func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9)) }

private func quotas(_ limits: [QuotaEntity: Double], _ limit: ClientQuotas.Limit = .producerBytes) -> ClientQuotas {
  var quotas = ClientQuotas()
  quotas.set(limits.mapValues { [limit.rawValue: $0] })
  return quotas
}

@Test("one second's worth is free, and what was used beyond it has to be waited for")
func waits() {
  var quotas = quotas([QuotaEntity(clientID: .named("c")): 1000])
  #expect(quotas.charge(.producerBytes, clientID: "c", 1000, now: at(1)) == .zero)
  #expect(quotas.charge(.producerBytes, clientID: "c", 500, now: at(1)) == .milliseconds(500))
  #expect(quotas.charge(.producerBytes, clientID: "c", 0, now: at(1.5)) == .zero)
  #expect(quotas.charge(.producerBytes, clientID: "c", 1, now: at(1.5)) == .milliseconds(1))
  #expect(quotas.charge(.producerBytes, clientID: "d", 1e12, now: at(1)) == .zero, "nobody limits this one")
  #expect(quotas.charge(.consumerBytes, clientID: "c", 1e12, now: at(1)) == .zero)
}

@Test("who waits as told gets exactly the limit over time, whatever the sizes", arguments: [1 as UInt64, 2, 3])
func rateOverTime(_ seed: UInt64) {
  var random = SeededRandom(seed: seed)
  var quotas = quotas([QuotaEntity(clientID: .standard): 10_000])
  var now = at(0)
  var sent = 0
  while now < at(600) {
    let size = Int.random(in: 1...50_000, using: &random)
    sent += size
    now = now + quotas.charge(.producerBytes, clientID: "c", Double(size), now: now)
  }
  let seconds = Double(now.nanoseconds) / 1e9
  #expect(Double(sent) <= 10_000 * (seconds + 1.001), "seed \(seed): \(sent) bytes in \(seconds) s")
  #expect(Double(sent) >= 10_000 * (seconds - 6), "seed \(seed): \(sent) bytes in \(seconds) s")
}

@Test("the most specific limit holds, in Kafka's order")
func precedence() {
  let order: [QuotaEntity] = [
    QuotaEntity(user: .named("ANONYMOUS"), clientID: .named("c")),
    QuotaEntity(user: .named("ANONYMOUS"), clientID: .standard), QuotaEntity(user: .named("ANONYMOUS")),
    QuotaEntity(user: .standard, clientID: .named("c")), QuotaEntity(user: .standard, clientID: .standard),
    QuotaEntity(user: .standard), QuotaEntity(clientID: .named("c")), QuotaEntity(clientID: .standard),
  ]
  var limits: [QuotaEntity: Double] = [QuotaEntity(user: .named("other")): 99]
  #expect(quotas(limits).value(.producerBytes, clientID: "c") == nil)
  for (index, entity) in order.enumerated().reversed() {
    limits[entity] = Double(index + 1)
    #expect(quotas(limits).value(.producerBytes, clientID: "c") == Double(index + 1))
  }
}

@Test("clients share a user's limit, but have a default client id's each for itself")
func sharing() {
  var users = quotas([QuotaEntity(user: .standard): 100])
  #expect(users.charge(.producerBytes, clientID: "a", 100, now: at(0)) == .zero)
  #expect(users.charge(.producerBytes, clientID: "b", 100, now: at(0)) == .seconds(1))
  var clients = quotas([QuotaEntity(clientID: .standard): 100])
  #expect(clients.charge(.producerBytes, clientID: "a", 100, now: at(0)) == .zero)
  #expect(clients.charge(.producerBytes, clientID: "b", 100, now: at(0)) == .zero)
}

@Test("a limit that changes counts from then on, one that is taken away holds nobody back")
func changes() {
  var quotas = quotas([QuotaEntity(clientID: .named("c")): 100])
  #expect(quotas.charge(.producerBytes, clientID: "c", 300, now: at(0)) == .seconds(2))
  quotas.set([QuotaEntity(clientID: .named("c")): ["producer_byte_rate": 400]])
  #expect(quotas.charge(.producerBytes, clientID: "c", 0, now: at(0)) == .milliseconds(500))
  quotas.set([:])
  #expect(quotas.charge(.producerBytes, clientID: "c", 1000, now: at(0)) == .zero && quotas.bucketCount == 0)
}

@Test("a connection that comes too early waits a second at most and is not counted: its address is not locked out")
func earlyConnections() {
  var quotas = quotas([QuotaEntity(address: .standard): 1], .connections)
  #expect(quotas.chargeConnection(from: "10.0.0.1", now: at(0)) == .zero)
  let waits = (0..<1000).map { _ in quotas.chargeConnection(from: "10.0.0.1", now: at(0.25)) }
  #expect(Set(waits) == [.milliseconds(750)])
  #expect(quotas.chargeConnection(from: "10.0.0.1", now: at(1)) == .zero, "those that were turned away are forgotten")
  #expect(quotas.chargeConnection(from: "10.0.0.1", now: at(1)) == .seconds(1))
}

@Test("who used too much time waits a second before each request, until no more than ten seconds are paid for")
func boundedRequestTime() {
  var quotas = quotas([QuotaEntity(clientID: .named("c")): 12.5], .requestTime)
  #expect(quotas.charge(.requestTime, clientID: "c", 100, now: at(0)) == .seconds(1), "800 s would be owed")
  for second in 1..<10 {
    #expect(quotas.charge(.requestTime, clientID: "c", 0, now: at(Double(second))) == .seconds(1))
  }
  #expect(quotas.charge(.requestTime, clientID: "c", 0, now: at(9.5)) == .milliseconds(500))
  #expect(quotas.charge(.requestTime, clientID: "c", 0, now: at(10)) == .zero)
}

@Test("connections are limited by their address, request time in per cent of a second")
func otherLimits() {
  var addresses = quotas([QuotaEntity(address: .standard): 2, QuotaEntity(address: .named("::1")): 1], .connections)
  #expect((0..<3).map { _ in addresses.chargeConnection(from: "10.0.0.1", now: at(0)) }.last == .milliseconds(500))
  #expect((0..<3).map { _ in addresses.chargeConnection(from: "::1", now: at(0)) }.last == .seconds(1))
  var time = quotas([QuotaEntity(clientID: .named("c")): 10], .requestTime)
  #expect(time.charge(.requestTime, clientID: "c", 0.2, now: at(0)) == .seconds(1))
}

@Test("clients without end do not fill the memory")
func boundedBuckets() {
  var quotas = quotas([QuotaEntity(clientID: .standard): 1])
  for number in 0..<50_000 {
    _ = quotas.charge(.producerBytes, clientID: "client \(number)", 1000, now: at(0))
    guard quotas.bucketCount <= ClientQuotas.mostBuckets else {
      Issue.record("\(quotas.bucketCount) buckets")
      return
    }
  }
}

private struct ImpossibleQuota {
  var entity: QuotaEntity
  var limits: [String: Double?]
  var text: String

  init(_ entity: QuotaEntity, _ limits: [String: Double?], _ text: String) {
    self.entity = entity
    self.limits = limits
    self.text = text
  }
}

private let impossible: [ImpossibleQuota] = [
  .init(QuotaEntity(), ["producer_byte_rate": 1], "no parts"),
  .init(QuotaEntity(clientID: .named("c")), ["no_such_rate": 1], "no_such_rate"),
  .init(QuotaEntity(clientID: .named("c")), ["connection_creation_rate": 1], "connection_creation_rate"),
  .init(QuotaEntity(address: .standard), ["producer_byte_rate": 1], "producer_byte_rate"),
  .init(QuotaEntity(user: .standard, address: .standard), ["connection_creation_rate": 1], "ip"),
  .init(QuotaEntity(address: .named("300.0.0.1")), ["connection_creation_rate": 1], "300.0.0.1"),
  .init(QuotaEntity(clientID: .named("c")), ["producer_byte_rate": 0], "above 0"),
  .init(QuotaEntity(clientID: .named("c")), ["request_percentage": -1], "-1"),
  .init(QuotaEntity(clientID: .named("c")), ["request_percentage": .nan], "nan"),
  .init(QuotaEntity(clientID: .named("c")), ["consumer_byte_rate": 1.5], "1.5"),
  .init(QuotaEntity(clientID: .named("")), ["consumer_byte_rate": 1], "empty"),
]

@Test("a quota that cannot be is refused with its name or value", arguments: impossible)
private func refusedQuotas(_ quota: ImpossibleQuota) throws {
  let world = try AdminWorld()
  do {
    try world.broker.checkQuotas(quota.entity, quota.limits)
    Issue.record("\(quota) was taken")
  } catch {
    #expect(error.code == .invalidRequest && error.reason.contains(quota.text), "\(error)")
  }
}

@Test("quotas are durable when told so, and count from the call on")
func durableQuotas() throws {
  let world = try AdminWorld()
  let entity = QuotaEntity(user: .standard, clientID: .named("c"))
  let error = try world.wait { (done: @escaping (BrokerError??) -> Void) in
    world.broker.setQuotas(entity, ["producer_byte_rate": 5, "request_percentage": 12.5]) { done(.some($0)) }
    #expect(world.broker.quotas.value(.producerBytes, clientID: "c") == 5)
  }
  #expect(error == .some(nil))
  try world.restart()
  #expect(world.broker.quotas.value(.requestTime, clientID: "c") == 12.5)
  #expect(world.broker.quotaLimits.map(\.entity) == [entity])
}
