// Any task by Hugging Face's client: `npm install @huggingface/inference`.
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const URL = process.env.PIPESERVE_URL ?? "http://127.0.0.1:8000";
const KEY = process.env.PIPESERVE_API_KEY ?? "none";
const client = new InferenceClient(KEY);
const at = (task) => client.endpoint(`${URL}/v1/${task}`); // the task's first declared model; /v1/<task>/<model> names another

const [review] = await at("text-classification").textClassification({ inputs: "The soup was cold and nobody cared." });
console.log(`review: ${review.label}`);

const names = await at("token-classification").tokenClassification({ inputs: "Angela Merkel flew from Hamburg to Paris." });
console.log(`names: ${names.map((name) => name.word).join(", ")}`);

const picture = new Blob([readFileSync(".cache/demo/star.png")], { type: "image/png" });
const [shape] = await at("image-classification").imageClassification({ data: picture });
console.log(`picture: ${shape.label}`);

const vector = await at("feature-extraction").featureExtraction({ inputs: "A cat sits on the mat." });
console.log(`embedding: ${vector.flat().length} numbers`);

const chat = client.endpoint(`${URL}/v1`);
const messages = [{ role: "user", content: "Tell me a joke!" }];
for await (const part of chat.chatCompletionStream({ model: "chat", messages, temperature: 0 })) {
  process.stdout.write(part.choices[0].delta.content ?? "");
}
console.log();
