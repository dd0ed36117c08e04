"""A client of Chorus in Python, after docs/PROTOCOL.md: client.py URL DEPLOYMENT KEY < commands, one JSON object a line."""
import asyncio, json, sys
import msgpack, nats, nkeys


class Refused(Exception):
    pass


class Client:
    def __init__(self, connection, deployment):
        self.connection, self.root = connection, f"chorus.v1.{deployment}"

    async def infer(self, **request):
        reply = await self.connection.request(f"{self.root}.infer", msgpack.packb(request), timeout=60)
        answer = msgpack.unpackb(reply.data)
        if answer["_tag"] == "Refused":
            raise Refused(answer["error"]["_tag"], answer["error"])
        return answer

    async def follow(self, session):
        """The log's entries from its beginning to its end."""
        inbox = self.connection.new_inbox()
        subscription = await self.connection.subscribe(inbox)
        request = {"_tag": "Follow", "session": session, "after": 0, "to": inbox}
        await self.connection.request(f"{self.root}.read", msgpack.packb(request), timeout=10)
        try:
            async for message in subscription.messages:
                entry = msgpack.unpackb(message.data)
                yield entry
                if entry["_tag"] == "End":
                    return
        finally:
            await subscription.unsubscribe()

    async def stream(self, cancel_after=None, **request):
        session = (await self.infer(stream=True, **request))["session"]
        tokens = []
        async for entry in self.follow(session):
            if entry["_tag"] == "Tokens":
                tokens += [token["id"] for token in entry["tokens"]]
            if cancel_after is not None and len(tokens) >= cancel_after:
                await self.connection.publish(f"{self.root}.ctl.cancel.{session}")
            if entry["_tag"] == "End":
                return {"session": session, "tokens": tokens, "finishReason": entry["finishReason"]}


async def main(url, deployment, key):
    """`key` is the file of a seed; answers come to an inbox of its own."""
    with open(key) as file:
        seed = file.read().strip()
    public = nkeys.from_seed(bytearray(seed, "ascii")).public_key.decode()
    connection = await nats.connect(url, nkeys_seed_str=seed, inbox_prefix=f"_INBOX.{public}".encode())
    client = Client(connection, deployment)
    for line in sys.stdin:
        command, request = json.loads(line)
        try:
            result = await getattr(client, command)(**request)
        except Refused as refused:
            result = {"refused": refused.args[0], **refused.args[1]}
        print(json.dumps(result), flush=True)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
