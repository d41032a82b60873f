// BroadcastState: states that belong to no key: a second stream changes them, and the function over the first one reads them.
//
// Every worker has all of them, because it takes every value of the second stream, in the same order. In the state log they are states of
// the empty key; one worker writes them, and all read them.

import MillraceBase

/// The states that a second stream changes, for the function over the first one, which only reads. Valid during the call.
public struct BroadcastValues {
  @usableFromInline let states: BoundStates

  @usableFromInline
  init(_ states: BoundStates) { self.states = states }

  /// The value; nil when there is none.
  public subscript<Value: StateCodable>(state: ValueState<Value>) -> Value? {
    let table: StateTable<NoElement, Value> = states.table(of: state)
    return table.content(.noKey, nil)
  }

  /// Copies of the list's values, in the order in which they were appended.
  /// - Complexity: O(count).
  public subscript<Value: StateCodable>(state: ListState<Value>) -> [Value] {
    let table: StateTable<Int64, Value> = states.table(of: state)
    return table.elements(.noKey).map { $0.1 }
  }

  /// The map.
  public subscript<Name: StateCodable, Value: StateCodable>(
    state: MapState<Name, Value>
  ) -> BroadcastMapValues<Name, Value> { BroadcastMapValues(table: states.table(of: state)) }
}

/// A map that a second stream changes, to be read. Valid during the call of the function.
public struct BroadcastMapValues<Name: StateCodable, Value: StateCodable> {
  @usableFromInline let table: StateTable<Name, Value>

  @usableFromInline
  init(table: StateTable<Name, Value>) { self.table = table }

  /// How many there are.
  public var count: Int { table.count(.noKey) }
  /// Copies of all, by the bytes of their names' encoding.
  /// - Complexity: O(count), and a sort after names were added that are not behind the last one.
  public var elements: [(name: Name, value: Value)] { table.elements(.noKey).map { (name: $0.0, value: $0.1) } }
  /// The value of a name; nil when there is none.
  public subscript(name: Name) -> Value? { table.content(.noKey, name) }
}

/// The states that a second stream changes, for the function over that stream. It runs on every worker and must do the same on each: what it
/// changes must follow from the value and the states alone. Valid during the call.
public struct BroadcastContext {
  /// The event time of the value.
  public let time: Timestamp
  @usableFromInline let states: BoundStates

  @usableFromInline
  init(time: Timestamp, states: BoundStates) {
    self.time = time
    self.states = states
  }

  /// The value; nil when there is none, and to take it away.
  public subscript<Value: StateCodable>(state: ValueState<Value>) -> Value? {
    get { table(state).content(.noKey, nil) }
    nonmutating set { table(state).set(.noKey, nil, newValue, at: time) }
  }

  private func table<Value: StateCodable>(_ state: ValueState<Value>) -> StateTable<NoElement, Value> {
    states.table(of: state)
  }

  /// The list.
  public subscript<Value: StateCodable>(state: ListState<Value>) -> ListStateValues<Value> {
    ListStateValues(table: states.table(of: state), key: .noKey, time: time)
  }

  /// The map.
  public subscript<Name: StateCodable, Value: StateCodable>(
    state: MapState<Name, Value>
  ) -> MapStateValues<Name, Value> {
    MapStateValues(table: states.table(of: state), key: .noKey, time: time)
  }
}

extension StatefulContext {
  /// The states that a second stream changes; see ``BroadcastProcess``.
  public var broadcast: BroadcastValues { BroadcastValues(stores.broadcast) }
}

extension UnsafeRawBufferPointer {
  /// The key of what belongs to none.
  fileprivate static var noKey: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}
