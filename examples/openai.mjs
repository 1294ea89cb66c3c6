// Chats, tools and embeddings by OpenAI's SDK: `npm install openai`.
import OpenAI from "openai";

const URL = process.env.PIPESERVE_URL ?? "http://127.0.0.1:8000";
const KEY = process.env.PIPESERVE_API_KEY ?? "none";
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });
const model = "chat";

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Who are you?" }],
  temperature: 0,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
console.log();

// Tools: the model asks for a call, the SDK makes it and says what came of it.
const runner = client.chat.completions.runTools({
  model,
  messages: [{ role: "user", content: "What time is it?" }],
  temperature: 0,
  tools: [
    {
      type: "function",
      function: {
        name: "get_time",
        description: "The time of day.",
        parameters: { type: "object", properties: {} },
        parse: JSON.parse,
        function: () => "17:45",
      },
    },
  ],
});
console.log(`told: ${await runner.finalContent()}`);

const vectors = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["A cat.", "Interest rates."] });
console.log(`embeddings: ${vectors.data.length} of ${vectors.data[0].embedding.length} numbers`);
