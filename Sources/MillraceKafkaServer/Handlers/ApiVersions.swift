// ApiVersions: which requests are understood, in which versions.

import MillraceKafkaProtocol

extension KafkaConnection {
  /// The feature `transaction.version` 2 makes clients add partitions by writing to them, and take a new epoch with every
  /// end of a transaction; `share.version` 1 stands for share groups. Source: KIP-511, KIP-890, KIP-932. Telemetry's keys are left out: librdkafka would use them at once.
  func handleApiVersions(_ request: ApiVersionsRequest, _ context: RequestContext<ApiVersionsResponse>) {
    if !request.clientSoftwareName.isEmpty {
      server.logger.log(
        .debug, "kafka", "client",
        [
          "connection": "\(number)", "name": request.clientSoftwareName, "version": request.clientSoftwareVersion,
        ])
    }
    context.answer(
      ApiVersionsResponse(
        apiKeys: APIKey.advertisedList,
        supportedFeatures: [
          .init(name: "share.version", minVersion: 0, maxVersion: 1),
          .init(name: "transaction.version", minVersion: 0, maxVersion: 2),
        ],
        finalizedFeaturesEpoch: 0,
        finalizedFeatures: [
          .init(name: "share.version", maxVersionLevel: 1, minVersionLevel: 1),
          .init(name: "transaction.version", maxVersionLevel: 2, minVersionLevel: 2),
        ]))
  }
}
