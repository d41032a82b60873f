// QueueArgumentsTests: what each argument of queue.declare means, and the texts of refusals that clients see.

import Foundation
import MillraceBase
import MillraceDelivery
import MillraceRouting
import Testing

@testable import MillraceBroker

private func declaration(_ arguments: RoutingTable, durable: Bool = true) -> QueueDeclaration {
  QueueDeclaration(name: "q", virtualHost: "/", isDurable: durable, arguments: arguments)
}

private func parsed(_ arguments: RoutingTable) throws -> QueueArguments { try QueueArguments(declaration(arguments)) }

/// The reply text with which a declaration is refused, nil when it is not.
private func refusal(_ declaration: QueueDeclaration) -> String? {
  do throws(RoutingError) {
    _ = try QueueArguments(declaration)
    return nil
  } catch {
    return error.description
  }
}

private func refusal(_ arguments: RoutingTable) -> String? { refusal(declaration(arguments)) }

@Test("a plain queue has the standard options, and arguments nobody knows mean nothing")
func plainArguments() throws {
  let plain = try parsed([:])
  #expect(plain.type == .classic && plain.options == QueueOptions() && plain.deadLetterExchange == nil)
  #expect(try parsed(["x-mine": .table(["a": .null]), "other": .int64(-1)]) == plain)
  #expect(
    try parsed(["x-queue-version": .int64(2), "x-queue-leader-locator": .string("balanced"), "x-queue-mode": "default"])
      == plain)
  #expect(try parsed(["x-queue-mode": .string("lazy")]).isLazy)
}

@Test("every argument with an effect has it")
func everyArgument() throws {
  let all = try parsed([
    "x-queue-type": "classic", "x-expires": .int64(5), "x-message-ttl": .int64(0), "x-dead-letter-exchange": "dlx",
    "x-dead-letter-routing-key": "key", "x-dead-letter-strategy": "at-least-once", "x-max-length": .int64(3),
    "x-max-length-bytes": .int64(4000), "x-max-priority": .int64(255), "x-overflow": "reject-publish-dlx",
    "x-single-active-consumer": .bool(true), "x-delivery-limit": .int64(7), "x-consumer-timeout": .int64(60_000),
    "x-delayed-retry-type": "failed", "x-delayed-retry-min": .int64(100), "x-delayed-retry-max": .int64(800),
    "x-retry-growth": "exponential", "x-retry-jitter": .double(0.25), "x-group-by": "customer",
    "x-deduplication-count": .int64(50), "x-deduplication-time": .int64(9000),
  ])
  var options = QueueOptions()
  options.expires = .milliseconds(5)
  options.messageTTL = .zero
  options.maximumLength = 3
  options.maximumBytes = 4000
  options.maximumPriority = 255
  options.overflow = .rejectPublishDeadLetter
  options.singleActiveConsumer = true
  options.deliveryLimit = 7
  options.consumerTimeout = .seconds(60)
  options.isKeyOrdered = true
  options.deduplicationCount = 50
  options.deduplicationTime = .seconds(9)
  options.retryDelay.kind = .failed
  options.retryDelay.minimum = .milliseconds(100)
  options.retryDelay.maximum = .milliseconds(800)
  options.retryDelay.growth = .exponential
  options.retryDelay.jitter = 0.25
  #expect(all.options == options)
  #expect(all.deadLetterExchange == "dlx" && all.deadLetterRoutingKey == "key" && all.groupHeader == "customer")
  #expect(all.deadLetterStrategy == .atLeastOnce && all.maximumAge == nil)
  #expect(try parsed(["x-deduplication-time": .int64(1)]).options.deduplicationCount == 100_000)
  // The empty exchange is the default one.
  #expect(try parsed(["x-dead-letter-exchange": ""]).deadLetterExchange == "")
}

@Test("a quorum queue has a delivery limit and 32 priorities, and drops the head where RabbitMQ does")
func quorumArguments() throws {
  let plain = try parsed(["x-queue-type": "quorum"])
  #expect(plain.options.deliveryLimit == 20 && plain.options.maximumPriority == 31)
  #expect(try parsed(["x-queue-type": "quorum", "x-delivery-limit": .int64(-1)]).options.deliveryLimit == nil)
  #expect(try parsed(["x-queue-type": "quorum", "x-delivery-limit": .int64(0)]).options.deliveryLimit == 0)
  #expect(try parsed(["x-queue-type": "quorum", "x-overflow": "reject-publish-dlx"]).options.overflow == .dropHead)
  #expect(try parsed(["x-queue-type": "quorum", "x-overflow": "reject-publish"]).options.overflow == .rejectPublish)
}

@Test("a stream has a size and an age")
func streamArguments() throws {
  let stream = try parsed(["x-queue-type": "stream", "x-max-length-bytes": .int64(9), "x-max-age": "7D"])
  #expect(stream.type == .stream && stream.options.maximumBytes == 9 && stream.maximumAge == .seconds(604_800))
  for (text, seconds) in [("1Y", 31_536_000), ("2M", 5_184_000), ("3h", 10_800), ("4m", 240), ("5s", 5)] {
    #expect(try parsed(["x-queue-type": "stream", "x-max-age": .string(text)]).maximumAge == .seconds(seconds))
  }
  for text in ["", "7", "D", "0s", "-1s", "7d", "7 D", "+7D", "99999999999999999999D", "9999999999999Y"] {
    #expect(refusal(["x-queue-type": "stream", "x-max-age": .string(text)])?.contains("x-max-age") == true, "\(text)")
  }
}

@Test("retries wait from the first delay on, by either name")
func retryArguments() throws {
  let own = try parsed(["x-retry-delay": .int64(50)]).options.retryDelay
  #expect(
    own.kind == .all && own.minimum == .milliseconds(50) && own.maximum == .seconds(3600) && own.growth == .linear)
  let theirs = try parsed(["x-delayed-retry-type": "returned"]).options.retryDelay
  #expect(theirs.kind == .returned && theirs.minimum == .seconds(1))
  #expect(
    try parsed(["x-delayed-retry-type": "disabled", "x-retry-delay": .int64(50)]).options.retryDelay.kind == .disabled)
  // A first delay above the standard longest one.
  #expect(try parsed(["x-retry-delay": .int64(7_200_000)]).options.retryDelay.maximum == .seconds(7200))
}

private let invalid = "PRECONDITION_FAILED - invalid arg "
private let mine = " for queue 'q' in vhost '/'"

private let wrong: [(RoutingTable, String)] = [
  (["x-message-ttl": .int64(-1)], "'x-message-ttl'\(mine): -1 is negative"),
  (["x-message-ttl": "60000"], "'x-message-ttl'\(mine): expected integer, got longstr"),
  (["x-message-ttl": .int64(1 << 54)], "'x-message-ttl'\(mine): 18014398509481984 exceeds 9007199254740992"),
  (["x-expires": .int64(0)], "'x-expires'\(mine): 0 is below 1"),
  (["x-max-length": .double(1)], "'x-max-length'\(mine): expected integer, got double"),
  (["x-max-priority": .int64(256)], "'x-max-priority'\(mine): 256 exceeds 255"),
  (
    ["x-overflow": "explode"],
    "'x-overflow'\(mine): 'explode' is none of drop-head, reject-publish, reject-publish-dlx"
  ),
  (["x-single-active-consumer": "yes"], "'x-single-active-consumer'\(mine): expected bool, got longstr"),
  (["x-queue-type": "nonsense"], "'x-queue-type'\(mine): unsupported queue type 'nonsense'"),
  (["x-queue-type": .int64(1)], "'x-queue-type'\(mine): expected longstr, got signedint"),
  (["x-dead-letter-routing-key": "k"], "'x-dead-letter-routing-key'\(mine): routing_key_but_no_dlx_defined"),
  (["x-queue-version": .int64(3)], "'x-queue-version'\(mine): 3 exceeds 2"),
  (["x-group-by": ""], "'x-group-by'\(mine): the name of a header is expected"),
  (["x-retry-jitter": .double(1.5), "x-retry-delay": .int64(1)], "'x-retry-jitter'\(mine): a number from 0 to 1"),
  (["x-retry-jitter": .double(.nan), "x-retry-delay": .int64(1)], "'x-retry-jitter'\(mine): a number from 0 to 1"),
  (["x-retry-growth": "linear"], "'x-retry-growth'\(mine): without x-retry-delay"),
  (["x-retry-delay": .int64(5), "x-delayed-retry-min": .int64(5)], "'x-retry-delay'\(mine): x-delayed-retry-min says"),
  (["x-retry-delay": .int64(5), "x-retry-max-delay": .int64(4)], "'x-retry-max-delay'\(mine): less than"),
  (["x-deduplication-count": .int64(1_000_001)], "'x-deduplication-count'\(mine): 1000001 exceeds 1000000"),
  (["x-delivery-limit": .int64(-2)], "'x-delivery-limit'\(mine): -2 is negative"),
  (["x-max-age": "1D"], "'x-max-age'\(mine) of queue type rabbit_classic_queue"),
  (
    ["x-queue-type": "quorum", "x-max-priority": .int64(5)], "'x-max-priority'\(mine) of queue type rabbit_quorum_queue"
  ),
  (["x-queue-type": "quorum", "x-queue-mode": "lazy"], "'x-queue-mode'\(mine) of queue type rabbit_quorum_queue"),
  (["x-queue-type": "stream", "x-message-ttl": .int64(1)], "'x-message-ttl'\(mine) of queue type rabbit_stream_queue"),
]

@Test("a wrong argument is refused with 406 and RabbitMQ's text, up to what is wrong with it", arguments: wrong.indices)
func wrongArguments(_ index: Int) {
  let text = refusal(wrong[index].0)
  #expect(text?.hasPrefix(invalid + wrong[index].1) == true, "\(text ?? "accepted")")
}

@Test("every known argument is refused when its value is of another type, or is without effect whatever its value")
func everyTypeIsChecked() {
  for argument in KnownArgument.all {
    for type in argument.types {
      let arguments: RoutingTable = ["x-queue-type": .string(type.rawValue)]
      let table = RoutingTable(
        arguments.fields.filter { $0.name != argument.name } + [.init(argument.name, .array([]))])
      let isAccepted = refusal(table) == nil
      #expect(isAccepted == (argument.name == "x-queue-master-locator"), "\(argument.name) of \(type)")
    }
  }
}

@Test("a dead-letter exchange that is no string, and arguments that nest too deep, are refused")
func refusedBeforehand() {
  #expect(
    refusal(["x-dead-letter-exchange": .int64(7)])
      == "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'")
  var value = RoutingValue.null
  for _ in 0..<40 { value = .array([value]) }
  #expect(refusal(["x-mine": value])?.contains("deeper than 32") == true)
}

@Test(
  "quorum queues and streams are durable, shared, lasting, and named by the client", arguments: ["quorum", "stream"])
func replicatedTypes(_ type: String) {
  let arguments: RoutingTable = ["x-queue-type": .string(type)]
  func text(_ property: String) -> String { "PRECONDITION_FAILED - invalid property '\(property)'\(mine)" }
  #expect(refusal(declaration(arguments, durable: false)) == text("non-durable"))
  var one = declaration(arguments)
  one.isExclusive = true
  #expect(refusal(one) == text("exclusive-owner"))
  one = declaration(arguments)
  one.isAutoDelete = true
  #expect(refusal(one) == text("auto-delete"))
  let error = #expect(throws: RoutingError.self) { try QueueArguments.checkServerNamed(arguments) }
  #expect(
    error?.description == "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_\(type)_queue")
  #expect(throws: Never.self) { try QueueArguments.checkServerNamed(["x-queue-type": "classic"]) }
}

/// The reply text to a second declaration, nil when it is the same queue.
private func inequivalence(_ current: QueueDeclaration, _ asked: QueueDeclaration) -> String? {
  do throws(RoutingError) {
    try current.checkEquivalence(of: asked)
    return nil
  } catch {
    return error.description
  }
}

@Test("a queue that is declared again with other flags is refused, with the first that differs")
func otherFlags() {
  let current = declaration([:])
  func changed(_ change: (inout QueueDeclaration) -> Void) -> String? {
    var asked = current
    change(&asked)
    return inequivalence(current, asked)
  }
  let begin = "PRECONDITION_FAILED - inequivalent arg "
  #expect(changed { _ in } == nil)
  #expect(changed { $0.isDurable = false } == begin + "'durable'\(mine): received 'false' but current is 'true'")
  #expect(changed { $0.isAutoDelete = true } == begin + "'auto_delete'\(mine): received 'true' but current is 'false'")
  #expect(
    changed { $0.isExclusive = true }
      == "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally "
      + "declared on another connection or the exclusive property value does not match that of the original declaration."
  )
}

@Test("a queue that is declared again with other arguments is refused; those without effect are not compared")
func otherArguments() {
  func changed(_ current: RoutingTable, _ asked: RoutingTable) -> String? {
    inequivalence(declaration(current), declaration(asked))
  }
  let begin = "PRECONDITION_FAILED - inequivalent arg "
  let five: RoutingTable = ["x-max-length": .int64(5)]
  #expect(changed(five, five) == nil)
  #expect(
    changed(five, ["x-max-length": .int64(6)]) == begin + "'x-max-length'\(mine): received '6' but current is '5'")
  #expect(
    changed(five, [:])
      == begin + "'x-max-length'\(mine): received none but current is the value '5' of type 'signedint'")
  #expect(
    changed([:], five)
      == begin + "'x-max-length'\(mine): received the value '5' of type 'signedint' but current is none")
  #expect(
    changed(["x-single-active-consumer": .bool(true)], ["x-single-active-consumer": .bool(false)])
      == begin + "'x-single-active-consumer'\(mine): received 'false' but current is 'true'")
  #expect(
    changed([:], ["x-queue-type": "quorum"])
      == begin + "'x-queue-type'\(mine): received the value 'quorum' of type 'longstr' but current is none")
  #expect(changed(["x-queue-type": "quorum"], [:]) != nil)
  #expect(changed(["x-queue-type": "classic"], [:]) == nil && changed([:], ["x-queue-type": "classic"]) == nil)
  #expect(changed(["x-mine": .int64(1)], ["x-mine": .int64(2)]) == nil)
  #expect(changed(["x-queue-mode": "lazy"], ["x-queue-version": .int64(1)]) == nil)
  // Of a stream only what it knows.
  #expect(changed(["x-queue-type": "stream"], ["x-queue-type": "stream", "x-message-ttl": .int64(1)]) == nil)
}

@Test("docs/reference/amqp.md lists the arguments that are known, with the types that take them")
func argumentsReference() throws {
  let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  let page = try String(contentsOf: root.appending(path: "docs/reference/amqp.md"), encoding: .utf8)
  let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `x-") }.map {
    $0.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
  }
  let letters: [QueueType: String] = [.classic: "C", .quorum: "Q", .stream: "S"]
  let expected = KnownArgument.all.map { argument in
    ["`\(argument.name)`", argument.types.compactMap { letters[$0] }.joined(separator: " ")]
  }
  #expect(Set(rows.map { Array($0.prefix(2)) }) == Set(expected) && rows.count == expected.count)
  for row in rows {
    let isCompared = KnownArgument.all.first { "`\($0.name)`" == row[0] }?.isCompared
    #expect(isCompared != row[2].contains("without effect"), "\(row[0])")
  }
}

extension RoutingValue: ExpressibleByStringLiteral {
  /// Text.
  public init(stringLiteral text: String) { self = .string(text) }
}
