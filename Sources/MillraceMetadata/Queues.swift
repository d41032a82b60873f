// Queues: the durable part of message queues, exchanges and bindings, as the events have led to it.
//
// Snapshot: next queue number int64; routing as `Routing.write(to:)` has it; durable queues: uint32 count, by number,
// each: definition as in its event, the state as MillraceDelivery's `QueueState` writes it, published bytes: count as
// unsigned LEB128, by lane, each lane uint8 and bytes int64.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// A durable queue.
public struct DurableQueue: Equatable, Sendable {
  /// What it was created with; never changes.
  public struct Definition: Equatable, Sendable {
    /// Number, from 1: given once, never again.
    public let number: Int64
    /// Virtual host that it belongs to.
    public let virtualHost: String
    /// Name, unique among the queues of its virtual host.
    public let name: String
    /// Goes when its last consumer goes.
    public let isAutoDelete: Bool
    /// Arguments as they were declared.
    public let arguments: RoutingTable
    /// The log of each lane by its number, 1 to 256 of them.
    public let lanes: [PartitionLogID]
    /// When it was created.
    public let created: Timestamp

    /// A queue to be created, with numbers from ``Metadata/queues`` and ``Metadata/newPartitions(_:)``.
    public init(
      number: Int64, virtualHost: String, name: String, isAutoDelete: Bool, arguments: RoutingTable,
      lanes: [PartitionLogID], created: Timestamp
    ) {
      self.number = number
      self.virtualHost = virtualHost
      self.name = name
      self.isAutoDelete = isAutoDelete
      self.arguments = arguments
      self.lanes = lanes
      self.created = created
    }
  }

  /// What it was created with.
  public let definition: Definition
  /// What is done, counted and delayed.
  public private(set) var state = QueueState()
  /// Sum of the sizes of all messages that ever entered each lane; lanes without any are left out.
  public private(set) var publishedBytes: [UInt8: Int64] = [:]

  init(definition: Definition) { self.definition = definition }

  mutating func apply(_ changes: [QueueChange]) {
    for change in changes where Int(change.lane) < definition.lanes.count { state.apply(change) }
  }

  mutating func published(_ bytes: Int64, lane: UInt8) {
    guard bytes > 0, Int(lane) < definition.lanes.count else { return }
    let (sum, overflow) = publishedBytes[lane, default: 0].addingReportingOverflow(bytes)
    publishedBytes[lane] = overflow ? .max : sum
  }

  fileprivate func write(to writer: inout ByteWriter) {
    definition.write(to: &writer)
    state.encode(to: &writer)
    writer.unsignedVarint(UInt32(publishedBytes.count))
    for (lane, bytes) in publishedBytes.sorted(by: { $0.key < $1.key }) {
      writer.uint8(lane)
      writer.int64(bytes)
    }
  }

  fileprivate init(_ reader: inout ByteReader) throws(DecodingError) {
    self.init(definition: try Definition(&reader))
    let at = reader.position
    state = try QueueState(from: &reader)
    for _ in 0..<(try reader.unsignedVarint()) {
      let lane = try reader.uint8()
      let bytes = try reader.int64()
      guard bytes > 0, publishedBytes.updateValue(bytes, forKey: lane) == nil else {
        throw DecodingError("\(bytes) bytes published to lane \(lane), or twice", at: at)
      }
    }
    let lanes = Set(state.lanes.keys).union(publishedBytes.keys)
    guard lanes.allSatisfy({ Int($0) < definition.lanes.count }) else {
      throw DecodingError("queue '\(definition.name)' has a state of lanes that it does not have", at: at)
    }
  }
}

/// Virtual hosts, exchanges, bindings and durable queues.
///
/// A value with one owner: a copy that is kept makes the next change copy what it touches.
public struct Queues: Sendable {
  /// Virtual hosts, exchanges and bindings: the durable ones by events, others by ``Metadata/applyTransient(_:)``.
  public internal(set) var routing = Routing()
  private var durable: [Int64: DurableQueue] = [:]
  private var numbers: [Name: Int64] = [:]
  /// The number of the next durable queue; it is taken once the event that names it is applied.
  public private(set) var nextNumber: Int64 = 1

  /// The logs that an event makes or removes.
  enum Logs {
    case none
    case made([PartitionLogID])
    case removed([PartitionLogID])
  }

  /// Compared by the bytes of UTF-8, as AMQP's names are; Swift's `==` compares normalised text.
  private struct Name: Hashable {
    let virtualHost: String
    let name: String

    static func == (left: Name, right: Name) -> Bool {
      left.name.utf8.elementsEqual(right.name.utf8) && left.virtualHost.utf8.elementsEqual(right.virtualHost.utf8)
    }

    func hash(into hasher: inout Hasher) {
      for var text in [virtualHost, name] {
        hasher.combine(text.utf8.count)
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
      }
    }
  }

  init() {}

  // MARK: What there is

  /// The durable queue of this number.
  public subscript(number: Int64) -> DurableQueue? { durable[number] }

  /// The durable queue of this name.
  public func queue(_ name: String, in virtualHost: String) -> DurableQueue? {
    number(of: name, in: virtualHost).flatMap { durable[$0] }
  }

  /// The number of the durable queue of this name.
  public func number(of name: String, in virtualHost: String) -> Int64? {
    numbers[Name(virtualHost: virtualHost, name: name)]
  }

  /// How many durable queues there are.
  public var count: Int { durable.count }

  /// The numbers of all durable queues, in rising order.
  public var allNumbers: [Int64] { durable.keys.sorted() }

  // MARK: Changes

  /// Applies an event; what makes no sense, as a second queue of a name, changes nothing. What is durable afterwards
  /// depends on what was durable before alone, whatever else is there.
  /// - Complexity: `changed` O(ranges) while they are in order; deleting a virtual host O(durable queues).
  mutating func apply(_ event: QueueEvent) -> Logs {
    switch event {
    case .changed(let number, let changes): durable[number]?.apply(changes)
    case .published(let number, let lane, let bytes): durable[number]?.published(bytes, lane: lane)
    case .virtualHostCreated(let name): routing.applyCreate(virtualHost: name)
    case .virtualHostDeleted(let name):
      routing.applyDelete(virtualHost: name)
      let gone = durable.values.filter { $0.definition.virtualHost.utf8.elementsEqual(name.utf8) }.map(\.definition)
      if gone.isEmpty { break }
      for definition in gone { forget(definition) }
      return .removed(gone.flatMap(\.lanes).sorted())
    case .exchangeDeclared(let virtualHost, let exchange): declare(exchange, in: virtualHost)
    case .bound(let virtualHost, let binding):
      if case .queue(let name) = binding.destination, number(of: name, in: virtualHost) == nil { break }
      routing.applyBind(binding, isDurable: true, in: virtualHost)
    case .removed(let virtualHost, let removal): routing.apply(removal, in: virtualHost)
    case .queueCreated(let definition):
      return add(DurableQueue(definition: definition)) ? .made(definition.lanes) : .none
    case .queueDeleted(let number):
      guard let definition = durable[number]?.definition else { break }
      forget(definition)
      return .removed(definition.lanes)
    }
    return .none
  }

  private mutating func declare(_ exchange: Exchange, in virtualHost: String) {
    guard exchange.isDurable, !Exchange.isReserved(exchange.name) else { return }
    if let current = routing.exchange(exchange.name, in: virtualHost), !current.isDurable {
      // Not there when the event is read again. Nothing durable hangs on it.
      routing.apply(RoutingRemoval(cause: .exchange(exchange.name), autoDeleted: []), in: virtualHost)
    }
    routing.applyDeclare(exchange, in: virtualHost)
  }

  private mutating func add(_ queue: DurableQueue) -> Bool {
    let definition = queue.definition
    let name = Name(virtualHost: definition.virtualHost, name: definition.name)
    guard durable[definition.number] == nil, numbers[name] == nil, routing.hasVirtualHost(definition.virtualHost) else {
      return false
    }
    durable[definition.number] = queue
    numbers[name] = definition.number
    nextNumber = max(nextNumber, definition.number + 1)
    return true
  }

  private mutating func forget(_ definition: DurableQueue.Definition) {
    durable[definition.number] = nil
    numbers[Name(virtualHost: definition.virtualHost, name: definition.name)] = nil
  }

  // MARK: Snapshot

  /// The snapshot's bytes; nil for the state before the first event.
  func snapshot() -> Bytes? {
    let routing = routing.snapshot()
    if nextNumber == 1 && durable.isEmpty && routing == Routing().snapshot() { return nil }
    var writer = ByteWriter(capacity: 4096)
    writer.int64(nextNumber)
    writer.append(routing)
    writer.uint32(UInt32(durable.count))
    for number in allNumbers { durable[number]?.write(to: &writer) }
    return writer.finishJoined()
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    let next = try reader.int64()
    routing = try Routing(from: &reader)
    for _ in 0..<(try reader.uint32()) {
      let at = reader.position
      let queue = try DurableQueue(&reader)
      guard add(queue) else {
        throw DecodingError(
          "queue '\(queue.definition.name)' is there twice, or its virtual host is not there", at: at)
      }
    }
    guard next >= nextNumber else {
      throw DecodingError("the next queue number is \(next), behind \(nextNumber - 1)", at: at)
    }
    nextNumber = next
  }
}

extension QueueChange {
  fileprivate var lane: UInt8 {
    switch self {
    case .done(let lane, _, _), .counted(let lane, _, _), .delayed(let lane, _, _): lane
    }
  }
}
