// QueueBroker+Topology: virtual hosts, exchanges and bindings: what is durable by events, the rest in memory.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceRouting

extension QueueBroker {
  /// Called when a change holds, durably where it is durable; with the reason when it was refused. May be called before
  /// the function that it was given to returns.
  public typealias Completion = (RoutingError?) -> Void

  var routing: Routing { broker.metadata.queues.routing }

  /// All virtual hosts, in the order of their names' bytes.
  public var virtualHosts: [String] { routing.virtualHosts }

  /// Whether there is a virtual host of this name.
  public func hasVirtualHost(_ name: String) -> Bool { routing.hasVirtualHost(name) }

  /// Makes a virtual host with the exchanges that each has; nothing changes when it is there.
  public func createVirtualHost(_ name: String, completion: @escaping Completion) {
    record(completion) { [self] () throws(RoutingError) in
      if name.isEmpty || name.utf8.count > Routing.maximumNameLength {
        throw RoutingError(
          .preconditionFailed,
          "a virtual host's name has 1 to \(Routing.maximumNameLength) bytes, not \(name.utf8.count)")
      }
      return hasVirtualHost(name) ? nil : .virtualHostCreated(name)
    }
  }

  /// Deletes a virtual host with its exchanges, queues and messages.
  public func deleteVirtualHost(_ name: String, completion: @escaping Completion) {
    flushPublications()
    record(
      { [self] error in
        if error == nil {
          for hosted in allQueues where hosted.virtualHost == name { forget(hosted) }
          times[name] = nil
        }
        completion(error)
      }, givesSpaceBack: true
    ) { [self] () throws(RoutingError) in
      if name == Routing.defaultVirtualHost {
        throw RoutingError(.accessRefused, "virtual host '\(name)' cannot be deleted")
      }
      return hasVirtualHost(name) ? .virtualHostDeleted(name) : nil
    }
  }

  /// Declares an exchange. Errors: as ``Routing/checkDeclare(_:in:)``.
  public func declareExchange(_ exchange: Exchange, in virtualHost: String, completion: @escaping Completion) {
    change(completion) { [self] () throws(RoutingError) in
      switch try routing.checkDeclare(exchange, in: virtualHost) {
      case .exists: return .nothing
      case .new(let isDurable):
        guard !isDurable else { return .event(.exchangeDeclared(virtualHost: virtualHost, exchange)) }
        return .transient { $0.applyDeclare(exchange, in: virtualHost) }
      }
    }
  }

  /// Whether an exchange is there. Errors: as ``Routing/checkPassiveDeclare(_:in:)``.
  public func checkExchange(_ name: String, in virtualHost: String) throws(RoutingError) {
    try routing.checkPassiveDeclare(name, in: virtualHost)
  }

  /// Deletes an exchange with its bindings. Errors: as ``Routing/checkDelete(_:ifUnused:in:)``.
  public func deleteExchange(
    _ name: String, ifUnused: Bool, in virtualHost: String, completion: @escaping Completion
  ) {
    change(completion) { [self] () throws(RoutingError) in
      try routing.checkDelete(name, ifUnused: ifUnused, in: virtualHost)
      return removal(of: .exchange(name), in: virtualHost)
    }
  }

  /// Binds a queue or exchange to an exchange. Errors: as ``Routing/checkBind(_:to:in:)``; 405 for a queue of somebody else.
  /// - Parameter client: who does it, for the audit; nil for the program itself.
  public func bind(
    _ binding: Binding, in virtualHost: String, owner: QueueOwner?, by client: ClientIdentity? = nil,
    completion: @escaping Completion
  ) {
    let told = Told(client)
    change(telling(told, isMade: true, in: virtualHost, completion)) { [self] () throws(RoutingError) in
      told.forget()
      let binding = resolved(binding, in: virtualHost)
      switch try routing.checkBind(binding, to: try state(of: binding, in: virtualHost, owner), in: virtualHost) {
      case .exists: return .nothing
      case .new(let isDurable):
        told.decided(binding, isExclusive: isExclusive(binding, in: virtualHost))
        guard !isDurable else { return .event(.bound(virtualHost: virtualHost, binding)) }
        return .transient { $0.applyBind(binding, isDurable: false, in: virtualHost) }
      }
    }
  }

  /// Takes a binding away; nothing changes when there is none. Errors: as ``Routing/checkUnbind(_:in:)``.
  /// - Parameter client: who does it, for the audit; nil for the program itself.
  public func unbind(
    _ binding: Binding, in virtualHost: String, owner: QueueOwner?, by client: ClientIdentity? = nil,
    completion: @escaping Completion
  ) {
    let told = Told(client)
    change(telling(told, isMade: false, in: virtualHost, completion)) { [self] () throws(RoutingError) in
      told.forget()
      let binding = resolved(binding, in: virtualHost)
      try routing.checkUnbind(binding, in: virtualHost)
      let removal = removal(of: .binding(binding), in: virtualHost)
      if case .nothing = removal {
      } else {
        told.decided(binding, isExclusive: isExclusive(binding, in: virtualHost))
      }
      return removal
    }
  }

  /// A change of a binding for the audit: who makes it, and what it is once that is known. It is decided anew as long as the
  /// journal has no room: only what was decided last was done.
  private final class Told {
    let client: ClientIdentity?
    private(set) var binding: Binding?
    /// The queue is one connection's own.
    private(set) var isExclusive = false

    init(_ client: ClientIdentity?) { self.client = client }

    func forget() { binding = nil }

    func decided(_ binding: Binding, isExclusive: Bool) {
      self.binding = binding
      self.isExclusive = isExclusive
    }
  }

  private func telling(
    _ told: Told, isMade: Bool, in virtualHost: String, _ completion: @escaping Completion
  ) -> Completion {
    { [self] error in
      if error == nil, let client = told.client, let binding = told.binding {
        broker.audit.bound(
          binding, in: virtualHost, isMade: isMade, isExclusive: told.isExclusive, by: client)
      }
      completion(error)
    }
  }

  private func isExclusive(_ binding: Binding, in virtualHost: String) -> Bool {
    guard case .queue(let name) = binding.destination else { return false }
    return find(name, in: virtualHost)?.isExclusive ?? false
  }

  /// A binding to a queue's name that stands for a topic leads to the topic.
  private func resolved(_ binding: Binding, in virtualHost: String) -> Binding {
    guard case .queue(let name) = binding.destination, find(name, in: virtualHost) == nil,
      stream(name, in: virtualHost) != nil
    else { return binding }
    return Binding(
      source: binding.source, destination: .topic(name), key: binding.key, arguments: binding.arguments)
  }

  private func state(
    of binding: Binding, in virtualHost: String, _ owner: QueueOwner?
  ) throws(RoutingError) -> Routing.DestinationState {
    switch binding.destination {
    case .queue(let name):
      guard let hosted = find(name, in: virtualHost) else { return .missing }
      try checkOwner(of: hosted, owner)
      return hosted.isDurable ? .durable : .transient
    case .topic(let name): return stream(name, in: virtualHost) == nil ? .missing : .durable
    case .exchange: return .missing
    }
  }

  // MARK: Changes

  /// What a call leads to.
  enum TopologyChange {
    case nothing
    case event(QueueEvent)
    case transient((inout Routing) -> Void)
  }

  func removal(of cause: RoutingRemoval.Cause, in virtualHost: String) -> TopologyChange {
    guard let removal = routing.removal(of: cause, in: virtualHost) else { return .nothing }
    if routing.isDurable(removal, in: virtualHost) { return .event(.removed(virtualHost: virtualHost, removal)) }
    return .transient { $0.apply(removal, in: virtualHost) }
  }

  /// Decides when it is the call's turn to enter the log, so that nothing comes between the decision and its effect.
  private func change(
    _ completion: @escaping Completion, _ decide: @escaping () throws(RoutingError) -> TopologyChange
  ) {
    record(completion) { [self] () throws(RoutingError) in
      switch try decide() {
      case .nothing: return nil
      case .event(let event): return event
      case .transient(let body):
        broker.metadata.applyTransient(body)
        return nil
      }
    }
  }

  /// Records the event that `decide` gives when its turn comes, nil for none.
  func record(
    _ completion: @escaping Completion, givesSpaceBack: Bool = false,
    _ decide: @escaping () throws(RoutingError) -> QueueEvent?
  ) {
    recordUnit(completion) { () throws(RoutingError) in
      guard let event = try decide() else { return nil }
      var unit = AppendUnit(event: MetadataEvent.queue(event).encoded())
      unit.givesSpaceBack = givesSpaceBack
      return unit
    }
  }

  func recordUnit(_ completion: @escaping Completion, _ decide: @escaping () throws(RoutingError) -> AppendUnit?) {
    guard broker.isOpen, isOpen else { return completion(RoutingError(.internalError, "the broker is closed")) }
    var refusal: RoutingError?
    broker.log.append(deciding: {
      refusal = nil
      do throws(RoutingError) {
        return try decide()
      } catch {
        refusal = error
        return nil
      }
    }) { result in
      if let refusal { return completion(refusal) }
      switch result {
      case .success: completion(nil)
      case .failure(let error): completion(RoutingError(error))
      }
    }
  }
}

extension RoutingError {
  /// Why the log refused.
  init(_ error: LogError) {
    switch error.code {
    case .noSpace, .tooLarge: self.init(.resourceError, error.reason)
    default: self.init(.internalError, error.reason)
    }
  }
}
