// ApiVersions: which requests are understood, in which versions.

import MillraceKafkaProtocol

extension KafkaConnection {
  /// Source: KIP-511. Telemetry's keys are left out: librdkafka would use them at once.
  func handleApiVersions(_ request: ApiVersionsRequest, _ context: RequestContext<ApiVersionsResponse>) {
    if !request.clientSoftwareName.isEmpty {
      server.logger.log(
        .debug, "kafka", "client",
        [
          "connection": "\(number)", "name": request.clientSoftwareName, "version": request.clientSoftwareVersion,
        ])
    }
    context.answer(ApiVersionsResponse(apiKeys: APIKey.advertisedList))
  }
}
