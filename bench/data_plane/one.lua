-- wrk: the one request of its command line, which costs it least: what is measured is the proxy, and not how fast it is asked.
function done(summary)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("result done=%d failed=%d seconds=%f\n", summary.requests, failed, summary.duration / 1e6))
end
