// QueueEvent: the events that change virtual hosts, exchanges, bindings and durable queues, and their bytes in the journal.
//
// As MetadataEvent: kind uint8, version uint8 (1), then the fields, big endian. Exchanges, bindings, removals and tables
// as MillraceRouting's RoutingCoding.swift has them. Queue numbers are unsigned LEB128 in kinds 66 to 68, which come
// often; bytes are zig-zag LEB128.
//
//   60 virtual host created   name
//   61 virtual host deleted   name
//   62 exchange declared      virtual host, exchange
//   63 bound                  virtual host, binding
//   64 removed                virtual host, removal
//   65 queue created          number int64, virtual host, name, flags uint8 (1 auto-delete), created int64, arguments,
//                             lanes: count (1 to 256) as unsigned LEB128, each the int64 number of its partition
//   66 queue deleted          number
//   67 changed                number, count as unsigned LEB128, changes as MillraceDelivery's QueueChange writes them
//   68 published              number, lane uint8, bytes

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// One change of what is durable of queues and of the way to them.
public enum QueueEvent: Equatable, Sendable {
  /// A virtual host with the exchanges that each has.
  case virtualHostCreated(String)
  /// A virtual host is gone with all that is in it: exchanges, bindings, and durable queues with the logs of their lanes.
  case virtualHostDeleted(String)
  /// A durable exchange.
  case exchangeDeclared(virtualHost: String, Exchange)
  /// A durable binding.
  case bound(virtualHost: String, Binding)
  /// Something durable of exchanges and bindings is gone, with what goes along.
  case removed(virtualHost: String, RoutingRemoval)
  /// A durable queue with the logs of its lanes, which are new.
  case queueCreated(DurableQueue.Definition)
  /// A queue is gone with the logs of its lanes. Its bindings go by a removal in the same unit.
  case queueDeleted(Int64)
  /// Messages of a queue are done with, were counted or have to wait.
  case changed(Int64, [QueueChange])
  /// Messages of so many bytes entered a lane in the same unit.
  case published(Int64, lane: UInt8, bytes: Int64)

  static let kinds: ClosedRange<UInt8> = 60...68

  func write(to writer: inout ByteWriter) {
    func begin(_ kind: UInt8) {
      writer.uint8(kind)
      writer.uint8(1)
    }
    switch self {
    case .virtualHostCreated(let name):
      begin(60)
      writer.text(name)
    case .virtualHostDeleted(let name):
      begin(61)
      writer.text(name)
    case .exchangeDeclared(let virtualHost, let exchange):
      begin(62)
      writer.text(virtualHost)
      writer.exchange(exchange)
    case .bound(let virtualHost, let binding):
      begin(63)
      writer.text(virtualHost)
      writer.binding(binding)
    case .removed(let virtualHost, let removal):
      begin(64)
      writer.text(virtualHost)
      writer.removal(removal)
    case .queueCreated(let definition):
      begin(65)
      definition.write(to: &writer)
    case .queueDeleted(let number):
      begin(66)
      writer.queueNumber(number)
    case .changed(let number, let changes):
      begin(67)
      writer.queueNumber(number)
      writer.unsignedVarint(UInt32(changes.count))
      for change in changes { change.encode(to: &writer) }
    case .published(let number, let lane, let bytes):
      begin(68)
      writer.queueNumber(number)
      writer.uint8(lane)
      writer.varlong(bytes)
    }
  }

  /// Reads what follows kind and version.
  init(_ kind: UInt8, _ reader: inout ByteReader) throws(DecodingError) {
    switch kind {
    case 60: self = .virtualHostCreated(try reader.text())
    case 61: self = .virtualHostDeleted(try reader.text())
    case 62: self = .exchangeDeclared(virtualHost: try reader.text(), try reader.exchange())
    case 63: self = .bound(virtualHost: try reader.text(), try reader.binding())
    case 64: self = .removed(virtualHost: try reader.text(), try reader.removal())
    case 65: self = .queueCreated(try DurableQueue.Definition(&reader))
    case 66: self = .queueDeleted(try reader.queueNumber())
    case 67:
      let number = try reader.queueNumber()
      let count = Int(try reader.unsignedVarint())
      // The smallest change takes four bytes.
      guard count <= reader.remaining / 4 else {
        throw DecodingError("\(count) changes in \(reader.remaining) bytes", at: reader.position)
      }
      var changes: [QueueChange] = []
      changes.reserveCapacity(count)
      for _ in 0..<count { changes.append(try QueueChange(from: &reader)) }
      self = .changed(number, changes)
    case 68: self = .published(try reader.queueNumber(), lane: try reader.uint8(), bytes: try reader.varlong())
    default: throw DecodingError("kind \(kind) is no queue event", at: 0)
    }
  }
}

extension DurableQueue.Definition {
  func write(to writer: inout ByteWriter) {
    writer.int64(number)
    writer.text(virtualHost)
    writer.text(name)
    writer.uint8(isAutoDelete ? 1 : 0)
    writer.int64(created.milliseconds)
    writer.routingTable(arguments)
    writer.unsignedVarint(UInt32(lanes.count))
    for lane in lanes { writer.int64(lane.number) }
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    let number = try reader.int64()
    let virtualHost = try reader.text()
    let name = try reader.text()
    let flags = try reader.uint8()
    let created = Timestamp(milliseconds: try reader.int64())
    let arguments = try reader.routingTable()
    let count = Int(try reader.unsignedVarint())
    // A number that is given out next must be left behind each.
    guard (1..<Int64.max).contains(number), flags < 2, (1...256).contains(count) else {
      throw DecodingError("queue number \(number) with flags \(flags) and \(count) lanes", at: at)
    }
    var lanes: [PartitionLogID] = []
    for _ in 0..<count { lanes.append(PartitionLogID(try reader.int64())) }
    guard Set(lanes).count == count, lanes.allSatisfy({ (1..<Int64.max).contains($0.number) }) else {
      throw DecodingError("lanes of queue '\(name)' with partition numbers that cannot be", at: at)
    }
    self.init(
      number: number, virtualHost: virtualHost, name: name, isAutoDelete: flags == 1, arguments: arguments,
      lanes: lanes,
      created: created)
  }
}

extension ByteWriter {
  fileprivate mutating func queueNumber(_ number: Int64) { unsignedVarlong(UInt64(bitPattern: number)) }
}

extension ByteReader {
  fileprivate mutating func queueNumber() throws(DecodingError) -> Int64 { Int64(bitPattern: try unsignedVarlong()) }
}
