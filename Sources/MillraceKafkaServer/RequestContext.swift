// RequestContext: what a handler knows of its request besides the request itself, and how it answers.

import MillraceBase
import MillraceKafkaProtocol

/// What a handler needs besides the request itself.
struct RequestContext<Response: KafkaResponse> {
  let header: RequestHeader
  let connection: KafkaConnection
  /// Takes the answer's bytes, once.
  let send: ([Bytes]) -> Void

  /// Version of the request, and so of the answer.
  var version: Int16 { header.apiVersion }

  /// Says that a request that gets no answer is done.
  func finishSilently() { send([]) }

  /// Sends the answer.
  func answer(_ response: Response) {
    if connection.isThrottling {
      var told = response
      connection.tellThrottle(&told)
      return send(KafkaFrame.response(told, version: header.apiVersion, correlationID: header.correlationID))
    }
    send(KafkaFrame.response(response, version: header.apiVersion, correlationID: header.correlationID))
  }
}
