-- wrk -s bench/wrk.lua URL -- BODIES: each line of BODIES is a request's body, in turn; the last line printed is JSON.
local requests, next_one = {}, 0

function init(arguments)
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"num_requests": %d, "duration_us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "num_bad_status": %d, "num_broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
