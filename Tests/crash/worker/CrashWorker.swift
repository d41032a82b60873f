// CrashWorker: jobs as workers of a server, for scripts that kill both: the word count (worker_crash.py), balances
// (transfers.py), or messages from and to queues (test_amqp_queue_jobs.py).
//
//   CrashWorker DIRECTORY [transfers | orders | inbox]
//
// Writes `running` once the job runs. Ends with 3 when another worker has taken over, 4 when an operator has stopped the job,
// 1 for any other error.

import Glibc
import Millrace

enum CrashWorker {
  static func main() async {
    let arguments = CommandLine.arguments.dropFirst()
    guard let directory = arguments.first,
      let (job, options) = job(named: arguments.dropFirst().joined(separator: " "))
    else {
      say("usage: CrashWorker DIRECTORY [transfers | orders | inbox]\n", to: STDERR_FILENO)
      exit(64)
    }
    let worker = JobWorker(job, directory: directory, options: options)
    Task {
      while worker.state != .running { try await Task.sleep(for: .milliseconds(2)) }
      say("running\n", to: STDOUT_FILENO)
    }
    do throws(JobError) {
      try await worker.run()
    } catch {
      say("\(error)\n", to: STDERR_FILENO)
      switch error.code {
      case .fenced: exit(3)
      case .stopped: exit(4)
      default: exit(1)
      }
    }
  }

  private static func job(named name: String) -> (JobDefinition, JobOptions)? {
    switch name {
    case "": (WordCount.job(), wordOptions)
    case "transfers": (Transfers.job(), Transfers.options)
    case "orders": (Messages.toQueue(), Messages.options)
    case "inbox": (Messages.throughQueues(), Messages.options)
    default: nil
    }
  }

  /// Many small steps, so that there is always one to be killed in.
  private static var wordOptions: JobOptions {
    var options = JobOptions()
    options.readBytes = 16 << 10
    options.stepBytes = 32 << 10
    options.idleWait = .milliseconds(100)
    return options
  }

  private static func say(_ text: String, to descriptor: Int32) {
    // Nobody can be told when the reader is gone.
    _ = write(descriptor, text, text.utf8.count)
  }
}
