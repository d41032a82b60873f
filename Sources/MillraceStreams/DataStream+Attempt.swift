// DataStream+Attempt: functions that may fail for single values.

import MillraceBase
import MillraceDataflow

extension DataStream {
  /// One value for each value for which `transform` does not throw.
  ///
  ///     DataStream.topic("orders").map(onError: .deadLetter(topic: "orders-refused")) { try Order($0.value) }
  ///
  /// - Parameter policy: what becomes of a record for whose value it throws.
  @inlinable
  public func map<Output>(
    onError policy: ErrorPolicy, _ transform: @escaping @Sendable (Source.Output) throws -> Output
  ) -> DataStream<Attempt<Source, Output>> {
    DataStream<Attempt<Source, Output>>(Attempt(flow, onError: policy) { input, emit in emit(try transform(input)) })
  }

  /// Any number of values for each value, handed to the closure's second argument. What it hands on before it throws is handed on.
  ///
  /// - Parameter policy: what becomes of a record for whose value it throws.
  @inlinable
  public func flatMap<Output>(
    onError policy: ErrorPolicy, _ transform: @escaping @Sendable (Source.Output, (Output) -> Void) throws -> Void
  ) -> DataStream<Attempt<Source, Output>> {
    DataStream<Attempt<Source, Output>>(Attempt(flow, onError: policy, transform))
  }
}
