// TxMethods: class 90, tx: transactions of a channel.

import MillraceBase

/// `tx.select`, from the client: makes the channel transactional.
public struct TxSelect: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 10)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `tx.select-ok`, from the server: confirms it.
public struct TxSelectOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 11)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `tx.commit`, from the client: commits what was published and acknowledged.
public struct TxCommit: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 20)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `tx.commit-ok`, from the server: confirms it.
public struct TxCommitOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 21)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `tx.rollback`, from the client: abandons what was published and acknowledged.
public struct TxRollback: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 30)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `tx.rollback-ok`, from the server: confirms it.
public struct TxRollbackOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 90, methodID: 31)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
