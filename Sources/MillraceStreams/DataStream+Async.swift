// DataStream+Async: functions that answer later, such as those that ask a service.

import MillraceBase
import MillraceDataflow

extension DataStream where Source.Output: StateCodable & Sendable {
  /// What an asynchronous function answers for each value, with the value's event time.
  ///
  ///     orders.mapAsync(name: "rates", timeout: .seconds(5), retry: .attempts(3, delay: .milliseconds(100))) { order in
  ///       Priced(order, rate: try await exchange.rate(of: order.currency))
  ///     }
  ///
  /// The job goes on while calls are made. Values are state until their answers are handed on, so that a run that recovers makes pending
  /// calls again: calls are made at least once, answers are handed on exactly once. Event time does not overtake a pending value.
  ///
  /// - Parameters:
  ///   - name: owns pending values in the job's state; give one when the job's code may change.
  ///   - inFlight: most calls at a time, at least 1. With so many values pending no more input is read; what the last batch led to may
  ///     wait beyond that.
  ///   - ordered: whether answers are handed on in the order of the values; with several workers, of those that go to the same one. To have
  ///     an order that does not depend on workers, use a ``KeyedStream``. Otherwise each is handed on when it comes.
  ///   - timeout: a call that takes longer has failed with ``CallTimeout``, and its task is cancelled; nil for never.
  ///   - retry: how often a call is made that fails.
  ///   - policy: what becomes of a value whose last call fails.
  ///   - call: runs in a task of its own.
  @inlinable
  public func mapAsync<Output: Sendable>(
    name: String? = nil, inFlight: Int = 100, ordered: Bool = true, timeout: Duration? = .seconds(60),
    retry: CallRetry = .never, onError policy: CallErrorPolicy<Source.Output, Output> = .fail,
    _ call: @escaping @Sendable (Source.Output) async throws -> Output
  ) -> DataStream<AsyncMap<Source, NumberKey, Output>> {
    DataStream<AsyncMap<Source, NumberKey, Output>>(
      AsyncMap(
        flow, key: { NumberKey(hashOf: $0) },
        rules: AsyncRules(inFlight: inFlight, isOrdered: ordered, timeout: timeout, retry: retry, policy: policy),
        name: name, call: call))
  }
}

extension KeyedStream where Source.Output: StateCodable & Sendable {
  /// What an asynchronous function answers for each value; in order, answers of a key come in the order of its values, whatever the number of
  /// workers. See ``DataStream/mapAsync(name:inFlight:ordered:timeout:retry:onError:_:)``.
  @inlinable
  public func mapAsync<Output: Sendable>(
    name: String? = nil, inFlight: Int = 100, ordered: Bool = true, timeout: Duration? = .seconds(60),
    retry: CallRetry = .never, onError policy: CallErrorPolicy<Source.Output, Output> = .fail,
    _ call: @escaping @Sendable (Source.Output) async throws -> Output
  ) -> DataStream<AsyncMap<Source, Key, Output>> {
    DataStream<AsyncMap<Source, Key, Output>>(
      AsyncMap(
        flow, key: key,
        rules: AsyncRules(inFlight: inFlight, isOrdered: ordered, timeout: timeout, retry: retry, policy: policy),
        name: name, call: call))
  }
}

extension NumberKey {
  /// A number that follows from a value's encoding, to spread values over workers.
  @usableFromInline
  init(hashOf value: some StateCodable) {
    var writer = ByteWriter(capacity: 64)
    value.encode(into: &writer)
    self.init(Int64(bitPattern: writer.finishJoined().withBuffer { Hashing.stable($0) }))
  }
}
