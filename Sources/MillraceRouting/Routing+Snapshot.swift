// Routing+Snapshot: the durable part of the state as bytes.
//
// version uint32 1; virtual hosts: uint32 count, each: name; exchanges that are durable and not predeclared: uint32
// count, by name; bindings that are durable: uint32 count, by source and then in the order in which they were made.
// Exchanges and bindings as `RoutingCoding.swift` has them. The same durable state gives the same bytes.

import MillraceBase

extension Routing {
  private static let version: UInt32 = 1

  /// The durable virtual hosts, exchanges and bindings.
  public func snapshot() -> Bytes {
    var writer = ByteWriter(capacity: 4096)
    write(to: &writer)
    return writer.finishJoined()
  }

  /// Writes what ``snapshot()`` gives into a larger snapshot.
  public func write(to writer: inout ByteWriter) {
    writer.uint32(Routing.version)
    let names = virtualHosts
    writer.uint32(UInt32(names.count))
    for name in names {
      writer.name(name)
      let all = exchanges(in: name)
      let exchanges = all.filter { $0.isDurable && !Exchange.isReserved($0.name) }
      writer.uint32(UInt32(exchanges.count))
      for exchange in exchanges { writer.exchange(exchange) }
      let bindings = find(name).map { host in all.flatMap { host.durableBindings(from: $0.name) } } ?? []
      writer.uint32(UInt32(bindings.count))
      for binding in bindings { writer.binding(binding) }
    }
  }

  /// The state that a snapshot holds.
  /// - Throws: when the bytes are not a snapshot, or name a binding whose ends they do not name.
  public init(snapshot: Bytes) throws(DecodingError) {
    var reader = ByteReader(snapshot)
    try self.init(from: &reader)
    if reader.remaining > 0 { throw DecodingError("\(reader.remaining) bytes too many", at: reader.position) }
  }

  /// Reads what ``write(to:)`` wrote.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let version = try reader.uint32()
    guard version == Routing.version else {
      throw DecodingError("routing of version \(version), this program reads \(Routing.version)", at: 0)
    }
    var hosts: [VirtualHost] = []
    var names: Set<String> = []
    for _ in 0..<(try reader.count(ofSize: 12)) {
      let at = reader.position
      var host = VirtualHost(name: try reader.name())
      guard names.insert(host.name).inserted else { throw DecodingError("vhost '\(host.name)' twice", at: at) }
      for _ in 0..<(try reader.count(ofSize: 13)) {
        let at = reader.position
        let exchange = try reader.exchange()
        guard exchange.isDurable, !Exchange.isReserved(exchange.name), host.exchange(exchange.name) == nil else {
          throw DecodingError("exchange '\(exchange.name)' does not belong in a snapshot, or is there twice", at: at)
        }
        host.declare(exchange)
      }
      for _ in 0..<(try reader.count(ofSize: 17)) {
        let at = reader.position
        let binding = try reader.binding()
        guard host.number(of: binding) < 0 else { throw DecodingError("a binding is there twice", at: at) }
        host.bind(binding, isDurable: true)
        guard host.number(of: binding) >= 0 else {
          throw DecodingError("binding from '\(binding.source)' to \(binding.destination): an end is missing", at: at)
        }
      }
      hosts.append(host)
    }
    self.init(hosts: hosts)
  }
}

extension VirtualHost {
  func durableBindings(from exchange: String) -> [Binding] {
    let number = exchangeNames.find(exchange)
    if number < 0 { return [] }
    return exchanges[Int(number)].outgoing.compactMap { bindings[Int($0)] }.filter(\.isDurable).map(\.binding)
  }
}
