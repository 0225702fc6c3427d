import json, os, random, sys, time, urllib.error, urllib.request

def debit(workspace, key, order):
    url = f"{os.environ['CREDITS_URL']}/v1/workspaces/{workspace}/debits"
    headers = {"Authorization": "Bearer " + os.environ["CREDITS_TOKEN"], "Idempotency-Key": key, "Content-Type": "application/json"}
    for tries in range(1, 6):
        try:
            return json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(order).encode(), headers), timeout=30))
        except urllib.error.HTTPError as refused:
            if refused.code != 503 or tries == 5:
                return json.load(refused)  # 402: show its `prompt`, and link to its `top_up_url`.
            time.sleep(random.random() * 0.2 * 2 ** tries)  # Busy: a moment later, the same key charges nothing twice.

print(debit("demo", *map(json.loads, sys.argv[1:])))
