// JobRoutes: stream jobs as operators see them.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

enum JobRoutes {
  static let jobName = HTTPParameter("job", .name, "The job.")
  static let job = HTTPSchema.open([
    .required("name", .string), .required("state", .string), .required("epoch", .count),
  ])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/jobs", "Jobs", "Lists stream jobs with their figures.",
      .needs([HTTPRequirement(.describe, .cluster, .cluster)]),
      response: .json(.object([.required("jobs", .array(job))])), handler: list),
    HTTPRoute(
      .get, "/api/v1/jobs/{job}", "Jobs", "Describes a job: state, records, state, lag, operators.",
      .needs([HTTPRequirement(.describe, .cluster, .cluster)]), path: [jobName], response: .json(job), handler: show),
    HTTPRoute(
      .post, "/api/v1/jobs/{job}/stop", "Jobs",
      "Stops a job: it may not run until it is resumed, also after a restart. A worker finishes its step; the answer does not "
        + "wait for that.",
      .needs([HTTPRequirement(.alter, .cluster, .cluster)]), path: [jobName], status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in try set(true, call) },
    HTTPRoute(
      .post, "/api/v1/jobs/{job}/resume", "Jobs", "Lets a job run again.",
      .needs([HTTPRequirement(.alter, .cluster, .cluster)]), path: [jobName], status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in try set(false, call) },
  ]

  static func list(_ call: HTTPCall) {
    let jobs = call.server.jobs
    call.answerObject { json in
      json.name("jobs")
      json.array { json in for job in jobs { job.write(to: &json) } }
    }
  }

  private static func unknown(_ call: HTTPCall) -> HTTPProblem {
    HTTPProblem(.notFound, "unknown-job", "there is no job \(call.path("job"))", at: "path job")
  }

  static func show(_ call: HTTPCall) throws(HTTPProblem) {
    guard let job = call.server.jobs.first(where: { $0["name"]?.string == call.path("job") }) else {
      throw unknown(call)
    }
    call.answer { job.write(to: &$0) }
  }

  static func set(_ isStopped: Bool, _ call: HTTPCall) throws(HTTPProblem) {
    let name = call.path("job")
    guard call.broker.jobNames.contains(name) else { throw unknown(call) }
    call.broker.setStopped(isStopped, job: name) { error in
      call.answer(error) {
        if isStopped { call.server.stopsJob?(name) }
        call.answerNothing()
      }
    }
  }
}
