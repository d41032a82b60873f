// AMQPMethod: any method of AMQP 0-9-1, read from and written to the payload of a method frame.

import MillraceBase

/// A method with its fields. Source: AMQP 0-9-1 specification, with RabbitMQ's extensions.
public enum AMQPMethod: Equatable, Sendable {
  /// `connection.start`.
  case connectionStart(ConnectionStart)
  /// `connection.start-ok`.
  case connectionStartOk(ConnectionStartOk)
  /// `connection.secure`.
  case connectionSecure(ConnectionSecure)
  /// `connection.secure-ok`.
  case connectionSecureOk(ConnectionSecureOk)
  /// `connection.tune`.
  case connectionTune(ConnectionTune)
  /// `connection.tune-ok`.
  case connectionTuneOk(ConnectionTuneOk)
  /// `connection.open`.
  case connectionOpen(ConnectionOpen)
  /// `connection.open-ok`.
  case connectionOpenOk(ConnectionOpenOk)
  /// `connection.close`.
  case connectionClose(ConnectionClose)
  /// `connection.close-ok`.
  case connectionCloseOk(ConnectionCloseOk)
  /// `connection.blocked`.
  case connectionBlocked(ConnectionBlocked)
  /// `connection.unblocked`.
  case connectionUnblocked(ConnectionUnblocked)
  /// `connection.update-secret`.
  case connectionUpdateSecret(ConnectionUpdateSecret)
  /// `connection.update-secret-ok`.
  case connectionUpdateSecretOk(ConnectionUpdateSecretOk)
  /// `channel.open`.
  case channelOpen(ChannelOpen)
  /// `channel.open-ok`.
  case channelOpenOk(ChannelOpenOk)
  /// `channel.flow`.
  case channelFlow(ChannelFlow)
  /// `channel.flow-ok`.
  case channelFlowOk(ChannelFlowOk)
  /// `channel.close`.
  case channelClose(ChannelClose)
  /// `channel.close-ok`.
  case channelCloseOk(ChannelCloseOk)
  /// `access.request`.
  case accessRequest(AccessRequest)
  /// `access.request-ok`.
  case accessRequestOk(AccessRequestOk)
  /// `exchange.declare`.
  case exchangeDeclare(ExchangeDeclare)
  /// `exchange.declare-ok`.
  case exchangeDeclareOk(ExchangeDeclareOk)
  /// `exchange.delete`.
  case exchangeDelete(ExchangeDelete)
  /// `exchange.delete-ok`.
  case exchangeDeleteOk(ExchangeDeleteOk)
  /// `exchange.bind`.
  case exchangeBind(ExchangeBind)
  /// `exchange.bind-ok`.
  case exchangeBindOk(ExchangeBindOk)
  /// `exchange.unbind`.
  case exchangeUnbind(ExchangeUnbind)
  /// `exchange.unbind-ok`.
  case exchangeUnbindOk(ExchangeUnbindOk)
  /// `queue.declare`.
  case queueDeclare(QueueDeclare)
  /// `queue.declare-ok`.
  case queueDeclareOk(QueueDeclareOk)
  /// `queue.bind`.
  case queueBind(QueueBind)
  /// `queue.bind-ok`.
  case queueBindOk(QueueBindOk)
  /// `queue.purge`.
  case queuePurge(QueuePurge)
  /// `queue.purge-ok`.
  case queuePurgeOk(QueuePurgeOk)
  /// `queue.delete`.
  case queueDelete(QueueDelete)
  /// `queue.delete-ok`.
  case queueDeleteOk(QueueDeleteOk)
  /// `queue.unbind`.
  case queueUnbind(QueueUnbind)
  /// `queue.unbind-ok`.
  case queueUnbindOk(QueueUnbindOk)
  /// `basic.qos`.
  case basicQos(BasicQos)
  /// `basic.qos-ok`.
  case basicQosOk(BasicQosOk)
  /// `basic.consume`.
  case basicConsume(BasicConsume)
  /// `basic.consume-ok`.
  case basicConsumeOk(BasicConsumeOk)
  /// `basic.cancel`.
  case basicCancel(BasicCancel)
  /// `basic.cancel-ok`.
  case basicCancelOk(BasicCancelOk)
  /// `basic.publish`.
  case basicPublish(BasicPublish)
  /// `basic.return`.
  case basicReturn(BasicReturn)
  /// `basic.deliver`.
  case basicDeliver(BasicDeliver)
  /// `basic.get`.
  case basicGet(BasicGet)
  /// `basic.get-ok`.
  case basicGetOk(BasicGetOk)
  /// `basic.get-empty`.
  case basicGetEmpty(BasicGetEmpty)
  /// `basic.ack`.
  case basicAck(BasicAck)
  /// `basic.reject`.
  case basicReject(BasicReject)
  /// `basic.recover-async`.
  case basicRecoverAsync(BasicRecoverAsync)
  /// `basic.recover`.
  case basicRecover(BasicRecover)
  /// `basic.recover-ok`.
  case basicRecoverOk(BasicRecoverOk)
  /// `basic.nack`.
  case basicNack(BasicNack)
  /// `confirm.select`.
  case confirmSelect(ConfirmSelect)
  /// `confirm.select-ok`.
  case confirmSelectOk(ConfirmSelectOk)
  /// `tx.select`.
  case txSelect(TxSelect)
  /// `tx.select-ok`.
  case txSelectOk(TxSelectOk)
  /// `tx.commit`.
  case txCommit(TxCommit)
  /// `tx.commit-ok`.
  case txCommitOk(TxCommitOk)
  /// `tx.rollback`.
  case txRollback(TxRollback)
  /// `tx.rollback-ok`.
  case txRollbackOk(TxRollbackOk)
}

extension AMQPMethod {
  /// Reads the payload of a method frame.
  ///
  /// Strings and tables share the payload's memory where they are ``ShortString``, `Bytes` or ``AMQPFieldTable``.
  /// - Throws: ``AMQPError`` with the method's number: 540 for a class or method that is not known, 502 when the fields
  ///   are not what they should be or something follows them, 501 when there is no room for a number.
  public static func decode(_ payload: Bytes) throws(AMQPError) -> AMQPMethod {
    var reader = ByteReader(payload)
    let id: MethodID
    do throws(DecodingError) {
      id = MethodID(classID: try reader.uint16(), methodID: try reader.uint16())
    } catch {
      throw AMQPError(.frameError, "a method frame of \(payload.count) bytes names no method")
    }
    let method: AMQPMethod?
    do throws(DecodingError) {
      method = try fields(of: id, from: &reader)
    } catch {
      throw AMQPError(.syntaxError, "\(id): \(error)", id)
    }
    guard let method else {
      throw AMQPError(.notImplemented, "no method \(id)", id)
    }
    guard reader.remaining == 0 else {
      throw AMQPError(.syntaxError, "\(id): \(reader.remaining) bytes follow the fields", id)
    }
    return method
  }

  /// The method with this number; nil when there is none.
  private static func fields(of id: MethodID, from reader: inout ByteReader) throws(DecodingError) -> AMQPMethod? {
    switch (id.classID, id.methodID) {
    case (60, 40): return .basicPublish(try BasicPublish(from: &reader))
    case (60, 80): return .basicAck(try BasicAck(from: &reader))
    case (60, 120): return .basicNack(try BasicNack(from: &reader))
    case (60, 90): return .basicReject(try BasicReject(from: &reader))
    case (10, 10): return .connectionStart(try ConnectionStart(from: &reader))
    case (10, 11): return .connectionStartOk(try ConnectionStartOk(from: &reader))
    case (10, 20): return .connectionSecure(try ConnectionSecure(from: &reader))
    case (10, 21): return .connectionSecureOk(try ConnectionSecureOk(from: &reader))
    case (10, 30): return .connectionTune(try ConnectionTune(from: &reader))
    case (10, 31): return .connectionTuneOk(try ConnectionTuneOk(from: &reader))
    case (10, 40): return .connectionOpen(try ConnectionOpen(from: &reader))
    case (10, 41): return .connectionOpenOk(try ConnectionOpenOk(from: &reader))
    case (10, 50): return .connectionClose(try ConnectionClose(from: &reader))
    case (10, 51): return .connectionCloseOk(try ConnectionCloseOk(from: &reader))
    case (10, 60): return .connectionBlocked(try ConnectionBlocked(from: &reader))
    case (10, 61): return .connectionUnblocked(try ConnectionUnblocked(from: &reader))
    case (10, 70): return .connectionUpdateSecret(try ConnectionUpdateSecret(from: &reader))
    case (10, 71): return .connectionUpdateSecretOk(try ConnectionUpdateSecretOk(from: &reader))
    case (20, 10): return .channelOpen(try ChannelOpen(from: &reader))
    case (20, 11): return .channelOpenOk(try ChannelOpenOk(from: &reader))
    case (20, 20): return .channelFlow(try ChannelFlow(from: &reader))
    case (20, 21): return .channelFlowOk(try ChannelFlowOk(from: &reader))
    case (20, 40): return .channelClose(try ChannelClose(from: &reader))
    case (20, 41): return .channelCloseOk(try ChannelCloseOk(from: &reader))
    case (30, 10): return .accessRequest(try AccessRequest(from: &reader))
    case (30, 11): return .accessRequestOk(try AccessRequestOk(from: &reader))
    case (40, 10): return .exchangeDeclare(try ExchangeDeclare(from: &reader))
    case (40, 11): return .exchangeDeclareOk(try ExchangeDeclareOk(from: &reader))
    case (40, 20): return .exchangeDelete(try ExchangeDelete(from: &reader))
    case (40, 21): return .exchangeDeleteOk(try ExchangeDeleteOk(from: &reader))
    case (40, 30): return .exchangeBind(try ExchangeBind(from: &reader))
    case (40, 31): return .exchangeBindOk(try ExchangeBindOk(from: &reader))
    case (40, 40): return .exchangeUnbind(try ExchangeUnbind(from: &reader))
    case (40, 51): return .exchangeUnbindOk(try ExchangeUnbindOk(from: &reader))
    case (50, 10): return .queueDeclare(try QueueDeclare(from: &reader))
    case (50, 11): return .queueDeclareOk(try QueueDeclareOk(from: &reader))
    case (50, 20): return .queueBind(try QueueBind(from: &reader))
    case (50, 21): return .queueBindOk(try QueueBindOk(from: &reader))
    case (50, 30): return .queuePurge(try QueuePurge(from: &reader))
    case (50, 31): return .queuePurgeOk(try QueuePurgeOk(from: &reader))
    case (50, 40): return .queueDelete(try QueueDelete(from: &reader))
    case (50, 41): return .queueDeleteOk(try QueueDeleteOk(from: &reader))
    case (50, 50): return .queueUnbind(try QueueUnbind(from: &reader))
    case (50, 51): return .queueUnbindOk(try QueueUnbindOk(from: &reader))
    case (60, 10): return .basicQos(try BasicQos(from: &reader))
    case (60, 11): return .basicQosOk(try BasicQosOk(from: &reader))
    case (60, 20): return .basicConsume(try BasicConsume(from: &reader))
    case (60, 21): return .basicConsumeOk(try BasicConsumeOk(from: &reader))
    case (60, 30): return .basicCancel(try BasicCancel(from: &reader))
    case (60, 31): return .basicCancelOk(try BasicCancelOk(from: &reader))
    case (60, 50): return .basicReturn(try BasicReturn(from: &reader))
    case (60, 60): return .basicDeliver(try BasicDeliver(from: &reader))
    case (60, 70): return .basicGet(try BasicGet(from: &reader))
    case (60, 71): return .basicGetOk(try BasicGetOk(from: &reader))
    case (60, 72): return .basicGetEmpty(try BasicGetEmpty(from: &reader))
    case (60, 100): return .basicRecoverAsync(try BasicRecoverAsync(from: &reader))
    case (60, 110): return .basicRecover(try BasicRecover(from: &reader))
    case (60, 111): return .basicRecoverOk(try BasicRecoverOk(from: &reader))
    case (85, 10): return .confirmSelect(try ConfirmSelect(from: &reader))
    case (85, 11): return .confirmSelectOk(try ConfirmSelectOk(from: &reader))
    case (90, 10): return .txSelect(try TxSelect(from: &reader))
    case (90, 11): return .txSelectOk(try TxSelectOk(from: &reader))
    case (90, 20): return .txCommit(try TxCommit(from: &reader))
    case (90, 21): return .txCommitOk(try TxCommitOk(from: &reader))
    case (90, 30): return .txRollback(try TxRollback(from: &reader))
    case (90, 31): return .txRollbackOk(try TxRollbackOk(from: &reader))
    default: return nil
    }
  }

  /// Its number.
  public var id: MethodID {
    switch self {
    case .connectionStart: ConnectionStart.id
    case .connectionStartOk: ConnectionStartOk.id
    case .connectionSecure: ConnectionSecure.id
    case .connectionSecureOk: ConnectionSecureOk.id
    case .connectionTune: ConnectionTune.id
    case .connectionTuneOk: ConnectionTuneOk.id
    case .connectionOpen: ConnectionOpen.id
    case .connectionOpenOk: ConnectionOpenOk.id
    case .connectionClose: ConnectionClose.id
    case .connectionCloseOk: ConnectionCloseOk.id
    case .connectionBlocked: ConnectionBlocked.id
    case .connectionUnblocked: ConnectionUnblocked.id
    case .connectionUpdateSecret: ConnectionUpdateSecret.id
    case .connectionUpdateSecretOk: ConnectionUpdateSecretOk.id
    case .channelOpen: ChannelOpen.id
    case .channelOpenOk: ChannelOpenOk.id
    case .channelFlow: ChannelFlow.id
    case .channelFlowOk: ChannelFlowOk.id
    case .channelClose: ChannelClose.id
    case .channelCloseOk: ChannelCloseOk.id
    case .accessRequest: AccessRequest.id
    case .accessRequestOk: AccessRequestOk.id
    case .exchangeDeclare: ExchangeDeclare.id
    case .exchangeDeclareOk: ExchangeDeclareOk.id
    case .exchangeDelete: ExchangeDelete.id
    case .exchangeDeleteOk: ExchangeDeleteOk.id
    case .exchangeBind: ExchangeBind.id
    case .exchangeBindOk: ExchangeBindOk.id
    case .exchangeUnbind: ExchangeUnbind.id
    case .exchangeUnbindOk: ExchangeUnbindOk.id
    case .queueDeclare: QueueDeclare.id
    case .queueDeclareOk: QueueDeclareOk.id
    case .queueBind: QueueBind.id
    case .queueBindOk: QueueBindOk.id
    case .queuePurge: QueuePurge.id
    case .queuePurgeOk: QueuePurgeOk.id
    case .queueDelete: QueueDelete.id
    case .queueDeleteOk: QueueDeleteOk.id
    case .queueUnbind: QueueUnbind.id
    case .queueUnbindOk: QueueUnbindOk.id
    case .basicQos: BasicQos.id
    case .basicQosOk: BasicQosOk.id
    case .basicConsume: BasicConsume.id
    case .basicConsumeOk: BasicConsumeOk.id
    case .basicCancel: BasicCancel.id
    case .basicCancelOk: BasicCancelOk.id
    case .basicPublish: BasicPublish.id
    case .basicReturn: BasicReturn.id
    case .basicDeliver: BasicDeliver.id
    case .basicGet: BasicGet.id
    case .basicGetOk: BasicGetOk.id
    case .basicGetEmpty: BasicGetEmpty.id
    case .basicAck: BasicAck.id
    case .basicReject: BasicReject.id
    case .basicRecoverAsync: BasicRecoverAsync.id
    case .basicRecover: BasicRecover.id
    case .basicRecoverOk: BasicRecoverOk.id
    case .basicNack: BasicNack.id
    case .confirmSelect: ConfirmSelect.id
    case .confirmSelectOk: ConfirmSelectOk.id
    case .txSelect: TxSelect.id
    case .txSelectOk: TxSelectOk.id
    case .txCommit: TxCommit.id
    case .txCommitOk: TxCommitOk.id
    case .txRollback: TxRollback.id
    case .txRollbackOk: TxRollbackOk.id
    }
  }

  /// Writes the payload of a method frame.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(id.classID)
    writer.uint16(id.methodID)
    switch self {
    case .connectionStart(let fields): fields.encode(to: &writer)
    case .connectionStartOk(let fields): fields.encode(to: &writer)
    case .connectionSecure(let fields): fields.encode(to: &writer)
    case .connectionSecureOk(let fields): fields.encode(to: &writer)
    case .connectionTune(let fields): fields.encode(to: &writer)
    case .connectionTuneOk(let fields): fields.encode(to: &writer)
    case .connectionOpen(let fields): fields.encode(to: &writer)
    case .connectionOpenOk(let fields): fields.encode(to: &writer)
    case .connectionClose(let fields): fields.encode(to: &writer)
    case .connectionCloseOk(let fields): fields.encode(to: &writer)
    case .connectionBlocked(let fields): fields.encode(to: &writer)
    case .connectionUnblocked(let fields): fields.encode(to: &writer)
    case .connectionUpdateSecret(let fields): fields.encode(to: &writer)
    case .connectionUpdateSecretOk(let fields): fields.encode(to: &writer)
    case .channelOpen(let fields): fields.encode(to: &writer)
    case .channelOpenOk(let fields): fields.encode(to: &writer)
    case .channelFlow(let fields): fields.encode(to: &writer)
    case .channelFlowOk(let fields): fields.encode(to: &writer)
    case .channelClose(let fields): fields.encode(to: &writer)
    case .channelCloseOk(let fields): fields.encode(to: &writer)
    case .accessRequest(let fields): fields.encode(to: &writer)
    case .accessRequestOk(let fields): fields.encode(to: &writer)
    case .exchangeDeclare(let fields): fields.encode(to: &writer)
    case .exchangeDeclareOk(let fields): fields.encode(to: &writer)
    case .exchangeDelete(let fields): fields.encode(to: &writer)
    case .exchangeDeleteOk(let fields): fields.encode(to: &writer)
    case .exchangeBind(let fields): fields.encode(to: &writer)
    case .exchangeBindOk(let fields): fields.encode(to: &writer)
    case .exchangeUnbind(let fields): fields.encode(to: &writer)
    case .exchangeUnbindOk(let fields): fields.encode(to: &writer)
    case .queueDeclare(let fields): fields.encode(to: &writer)
    case .queueDeclareOk(let fields): fields.encode(to: &writer)
    case .queueBind(let fields): fields.encode(to: &writer)
    case .queueBindOk(let fields): fields.encode(to: &writer)
    case .queuePurge(let fields): fields.encode(to: &writer)
    case .queuePurgeOk(let fields): fields.encode(to: &writer)
    case .queueDelete(let fields): fields.encode(to: &writer)
    case .queueDeleteOk(let fields): fields.encode(to: &writer)
    case .queueUnbind(let fields): fields.encode(to: &writer)
    case .queueUnbindOk(let fields): fields.encode(to: &writer)
    case .basicQos(let fields): fields.encode(to: &writer)
    case .basicQosOk(let fields): fields.encode(to: &writer)
    case .basicConsume(let fields): fields.encode(to: &writer)
    case .basicConsumeOk(let fields): fields.encode(to: &writer)
    case .basicCancel(let fields): fields.encode(to: &writer)
    case .basicCancelOk(let fields): fields.encode(to: &writer)
    case .basicPublish(let fields): fields.encode(to: &writer)
    case .basicReturn(let fields): fields.encode(to: &writer)
    case .basicDeliver(let fields): fields.encode(to: &writer)
    case .basicGet(let fields): fields.encode(to: &writer)
    case .basicGetOk(let fields): fields.encode(to: &writer)
    case .basicGetEmpty(let fields): fields.encode(to: &writer)
    case .basicAck(let fields): fields.encode(to: &writer)
    case .basicReject(let fields): fields.encode(to: &writer)
    case .basicRecoverAsync(let fields): fields.encode(to: &writer)
    case .basicRecover(let fields): fields.encode(to: &writer)
    case .basicRecoverOk(let fields): fields.encode(to: &writer)
    case .basicNack(let fields): fields.encode(to: &writer)
    case .confirmSelect(let fields): fields.encode(to: &writer)
    case .confirmSelectOk(let fields): fields.encode(to: &writer)
    case .txSelect(let fields): fields.encode(to: &writer)
    case .txSelectOk(let fields): fields.encode(to: &writer)
    case .txCommit(let fields): fields.encode(to: &writer)
    case .txCommitOk(let fields): fields.encode(to: &writer)
    case .txRollback(let fields): fields.encode(to: &writer)
    case .txRollbackOk(let fields): fields.encode(to: &writer)
    }
  }

  /// The method with what it shares with a receive buffer in memory of its own, as far as a client's method that has a
  /// content is concerned; another one as it is.
  public var detached: AMQPMethod {
    guard case .basicPublish(var fields) = self else { return self }
    fields.exchange = fields.exchange.copied
    fields.routingKey = fields.routingKey.copied
    return .basicPublish(fields)
  }
}
