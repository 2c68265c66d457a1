--! Given to wrk by load.py: prints the exact totals of a run as one JSON line. It must never touch a
--! request or an answer, since that would cost the client the CPU time it needs to keep a proxy busy.
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format('{"ok": %d, "failed": %d}', summary.requests - errors.status,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
