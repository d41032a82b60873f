// Producers: ids for idempotent producers.

import MillraceBroker
import MillraceKafkaProtocol

extension KafkaConnection {
  func handleInitProducerID(_ request: InitProducerIdRequest, _ context: RequestContext<InitProducerIdResponse>) {
    guard request.transactionalID == nil else {
      server.logger.log(
        .warning, "kafka", "transactions are not supported",
        ["transactional.id": request.transactionalID ?? "", "connection": "\(number)"])
      return context.answer(InitProducerIdResponse(errorCode: .unsupportedVersion, producerEpoch: -1))
    }
    // Without a transactional id the id is always a new one, also for a producer that has one. Source: KIP-360.
    broker.newProducerID { result in
      switch result {
      case .success(let id): context.answer(InitProducerIdResponse(producerID: id, producerEpoch: 0))
      case .failure(let error):
        context.answer(InitProducerIdResponse(errorCode: KafkaErrorCode(group: error), producerEpoch: -1))
      }
    }
  }
}
