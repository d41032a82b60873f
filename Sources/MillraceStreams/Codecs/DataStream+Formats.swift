// DataStream+Formats: reading and writing records as JSON and CSV, in the chain that users write.

import MillraceBase
import MillraceDataflow

extension DataStream where Source.Output == InputRecord {
  /// The values of records, read as structs.
  ///
  /// What a struct lends (``BorrowedBytes``) is lent for the call only, like the record.
  ///
  /// - Parameters:
  ///   - format: how they are written.
  ///   - refused: counts records that are malformed or not what the schema says; they are dropped.
  @inlinable
  public func decode<Record: TypedRecord>(
    _: Record.Type, from format: TextFormat, refused: RefusedRecords? = nil
  ) -> DataStream<DecodeRecords<Source, Record>> {
    DataStream<DecodeRecords<Source, Record>>(DecodeRecords(flow, format, refused: refused))
  }

  /// The values of records, read as structs; records that are malformed or not what the schema says go where `policy` says, as those of
  /// ``DataStream/map(onError:_:)`` do: the job ends, or the record is left out and counted, or goes to a topic of dead letters.
  ///
  /// - Parameter format: how they are written.
  @inlinable
  public func decode<Record: TypedRecord>(
    _: Record.Type, from format: TextFormat, onError policy: ErrorPolicy
  ) -> DataStream<Attempt<DecodeResults<Source, Record>, Record>> {
    DataStream<Attempt<DecodeResults<Source, Record>, Record>>(
      Attempt(DecodeResults(flow, format), onError: policy) { result, emit in emit(try result.get()) })
  }

  /// The values of records, read as structs; of those that are malformed or not what the schema says, why, and at
  /// which byte.
  ///
  /// - Parameter format: how they are written.
  @inlinable
  public func decodeResults<Record: TypedRecord>(
    of _: Record.Type, from format: TextFormat
  ) -> DataStream<DecodeResults<Source, Record>> {
    DataStream<DecodeResults<Source, Record>>(DecodeResults(flow, format))
  }
}

extension DataStream where Source.Output: TypedRecord {
  /// Appends the text of each struct to a topic, as a record without key.
  public func to(topic: String, as format: TextFormat) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: TextTopicSink<Source.Output>(topic: topic, format: format)))
  }
}

extension DataStream {
  /// Appends the text of each struct to a topic, with its key.
  public func to<Key: BytesRepresentable, Record: TypedRecord>(topic: String, as format: TextFormat) -> StreamOutput
  where Source.Output == Keyed<Key, Record> {
    StreamOutput(Pipeline(flow, into: KeyedTextTopicSink<Key, Record>(topic: topic, format: format)))
  }
}
