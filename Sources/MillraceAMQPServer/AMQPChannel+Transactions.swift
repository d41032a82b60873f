// AMQPChannel+Transactions: the class tx: publications and acknowledgements that happen together, or not at all.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceRouting

/// What a transaction has gathered.
struct ChannelTransaction {
  var publications: [(publication: Publication, isMandatory: Bool)] = []
  var replies: [(BasicPublish, BasicProperties, ContentBody)] = []
  var settlements: [(delivery: UnacknowledgedDelivery<QueueConsumer>, settlement: Settlement)] = []
  /// Bytes of the publications.
  var bytes = 0
}

extension AMQPChannel {
  func selectTransactions() throws(AMQPError) {
    guard mode != .confirming else {
      throw AMQPError(.preconditionFailed, "cannot switch from confirm to tx mode")
    }
    mode = .transactional
    write(TxSelectOk())
  }

  /// One more publication of the transaction.
  func add(_ publication: Publication, isMandatory: Bool) throws(AMQPError) {
    try grow(publication.body.count + publication.properties.count + 256)
    // It may lie long: it must not keep the buffer that it was received in.
    transaction.publications.append((publication.detached(), isMandatory))
  }

  func add(reply fields: BasicPublish, _ properties: BasicProperties, _ body: ContentBody) throws(AMQPError) {
    try grow(body.count + properties.encoded.count + 256)
    var own = fields
    own.exchange = fields.exchange.copied
    own.routingKey = fields.routingKey.copied
    transaction.replies.append((own, properties.detached, ContentBody(Bytes(body.joined.array))))
  }

  private func grow(_ bytes: Int) throws(AMQPError) {
    guard bytes <= broker.largestUnit - transaction.bytes else {
      throw AMQPError(
        .preconditionFailed, "a transaction holds more than \(broker.largestUnit) bytes")
    }
    transaction.bytes += bytes
    connection.hold(bytes)
    connection.holdUnfinished(bytes)
  }

  private func requireTransactions() throws(AMQPError) {
    guard mode == .transactional else {
      throw AMQPError(.preconditionFailed, "channel is not transactional")
    }
  }

  func commit() throws(AMQPError) {
    try requireTransactions()
    let gathered = transaction
    var unit = QueueTransaction()
    unit.publications = gathered.publications.map(\.publication)
    unit.settlements = gathered.settlements.map { ($0.delivery.holder, $0.delivery.position, $0.settlement) }
    let done = waiting(TxCommit.id) { [self] (counts: [Int]) in
      endTransaction()
      for (count, one) in zip(counts, gathered.publications) where count == 0 && one.isMandatory {
        returnMessage(one.publication)
      }
      for (fields, properties, body) in gathered.replies { sendReply(fields, properties, body) }
      write(TxCommitOk())
    }
    queues.commit(unit, completion: done)
  }

  private func returnMessage(_ publication: Publication) {
    returnMessage(
      ShortString(publication.exchange) ?? "", ShortString(publication.routingKey) ?? "",
      AMQPMessageFormat.decode(publication.properties), ContentBody(publication.body))
  }

  func rollBack() throws(AMQPError) {
    try requireTransactions()
    putBackSettlements()
    endTransaction()
    write(TxRollbackOk())
  }

  /// What was settled in the transaction is not settled.
  func putBackSettlements() { unacknowledged.putBack(transaction.settlements.map(\.delivery)) }

  /// Forgets what was gathered.
  func endTransaction() {
    connection.hold(-transaction.bytes)
    connection.holdUnfinished(-transaction.bytes)
    transaction = ChannelTransaction()
  }
}
