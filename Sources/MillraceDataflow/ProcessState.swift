// ProcessState: the states that a process function names: values, lists and maps of each key.

import MillraceBase

/// A state that a process function names; see ``ValueState``, ``ListState`` and ``MapState``.
public protocol ProcessState: AnyObject, Sendable {
  /// Tells it from other states of the function.
  var name: String { get }
  /// Makes it for one run.
  /// - Parameter owner: the function's name.
  /// - Throws: `.invalidJob` when another state has the name.
  func bound(to graph: inout JobGraph, of owner: String?) throws(JobError) -> BoundState
}

extension ProcessState {
  fileprivate func makeTable<Element: StateCodable, Content: StateCodable>(
    _ graph: inout JobGraph, _ owner: String?, _ timeToLive: Duration?
  ) throws(JobError) -> StateTable<Element, Content> {
    if timeToLive != nil { graph.needEventTime() }
    return try graph.addState(kind: "process.\(name)", name: owner.map { "\($0).\(name)" }) {
      StateTable<Element, Content>(operatorID: $0, timeToLive: timeToLive)
    }
  }
}

/// One value for each key.
public final class ValueState<Value: StateCodable>: ProcessState {
  /// Tells it from other states of the function.
  public let name: String
  private let timeToLive: Duration?

  /// A state of one value.
  /// - Parameter timeToLive: after so much event time behind the value or timer that wrote it, it is gone; nil for never.
  public init(_ name: String, timeToLive: Duration? = nil) {
    self.name = name
    self.timeToLive = timeToLive
  }

  /// Makes it for one run.
  public func bound(to graph: inout JobGraph, of owner: String?) throws(JobError) -> BoundState {
    let table: StateTable<NoElement, Value> = try makeTable(&graph, owner, timeToLive)
    return table
  }
}

/// Values in order for each key: to append one writes one, however many there are.
public final class ListState<Value: StateCodable>: ProcessState {
  /// Tells it from other states of the function.
  public let name: String
  private let timeToLive: Duration?

  /// A state of any number of values.
  /// - Parameter timeToLive: after so much event time behind the value or timer that appended it, a value is gone; nil for never.
  public init(_ name: String, timeToLive: Duration? = nil) {
    self.name = name
    self.timeToLive = timeToLive
  }

  /// Makes it for one run.
  public func bound(to graph: inout JobGraph, of owner: String?) throws(JobError) -> BoundState {
    let table: StateTable<Int64, Value> = try makeTable(&graph, owner, timeToLive)
    return table
  }
}

/// Values by names of their own for each key: to set one writes one, however many there are.
public final class MapState<Name: StateCodable, Value: StateCodable>: ProcessState {
  /// Tells it from other states of the function.
  public let name: String
  private let timeToLive: Duration?

  /// A state of any number of values with names.
  /// - Parameter timeToLive: after so much event time behind the value or timer that set it, a value is gone; nil for never.
  public init(_ name: String, timeToLive: Duration? = nil) {
    self.name = name
    self.timeToLive = timeToLive
  }

  /// Makes it for one run.
  public func bound(to graph: inout JobGraph, of owner: String?) throws(JobError) -> BoundState {
    let table: StateTable<Name, Value> = try makeTable(&graph, owner, timeToLive)
    return table
  }
}

/// A key's values in a ``ListState``, in the order in which they were appended. Valid during the call of the function.
public struct ListStateValues<Value: StateCodable> {
  @usableFromInline let table: StateTable<Int64, Value>
  @usableFromInline let key: UnsafeRawBufferPointer
  @usableFromInline let time: Timestamp

  @usableFromInline
  init(table: StateTable<Int64, Value>, key: UnsafeRawBufferPointer, time: Timestamp) {
    self.table = table
    self.key = key
    self.time = time
  }

  /// How many there are.
  public var count: Int { table.count(key) }
  /// Copies of all.
  /// - Complexity: O(count).
  public var values: [Value] { table.elements(key).map { $0.1 } }
  /// Adds a value behind the last one.
  public func append(_ value: Value) { table.set(key, (table.last(key) ?? -1) + 1, value, at: time) }
  /// Takes the first values away, all when there are fewer.
  public func removeFirst(_ count: Int = 1) {
    for (number, _) in table.elements(key).prefix(count) { table.set(key, number, nil, at: time) }
  }
  /// Takes all values away.
  public func removeAll() { table.removeAll(key) }
}

/// A key's values in a ``MapState``. Valid during the call of the function.
public struct MapStateValues<Name: StateCodable, Value: StateCodable> {
  @usableFromInline let table: StateTable<Name, Value>
  @usableFromInline let key: UnsafeRawBufferPointer
  @usableFromInline let time: Timestamp

  @usableFromInline
  init(table: StateTable<Name, Value>, key: UnsafeRawBufferPointer, time: Timestamp) {
    self.table = table
    self.key = key
    self.time = time
  }

  /// How many there are.
  public var count: Int { table.count(key) }
  /// Copies of all, by the bytes of their names' encoding.
  /// - Complexity: O(count), and a sort after names were added that are not behind the last one.
  public var elements: [(name: Name, value: Value)] { table.elements(key).map { (name: $0.0, value: $0.1) } }
  /// The value of a name; nil when there is none, and to take it away.
  public subscript(name: Name) -> Value? {
    get { table.content(key, name) }
    nonmutating set { table.set(key, name, newValue, at: time) }
  }
  /// Takes all values away.
  public func removeAll() { table.removeAll(key) }
}
