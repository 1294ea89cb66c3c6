// Calls every method of `@huggingface/inference` that reaches a self-hosted URL and prints what each answered:
// one JSON line per task, {"task", "answer"} or {"task", "error"}.
// node ask.mjs URL FOLDER TASK... (FOLDER holds picture.png and sound.wav)
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const [url, folder, ...tasks] = process.argv.slice(2);
const picture = new Blob([readFileSync(`${folder}/picture.png`)], { type: "image/png" });
const sound = new Blob([readFileSync(`${folder}/sound.wav`)], { type: "audio/wav" });
const labels = ["a cat", "a dog"];

const calls = {
  "audio-classification": (client) => client.audioClassification({ data: sound }),
  "automatic-speech-recognition": (client) => client.automaticSpeechRecognition({ data: sound }),
  "document-question-answering": (client) =>
    client.documentQuestionAnswering({
      inputs: { question: "how much?", image: picture },
      parameters: { word_boxes: [["total", [10, 10, 200, 60]], ["seven", [210, 10, 400, 60]]] },
    }),
  "feature-extraction": (client) => client.featureExtraction({ inputs: "a good film" }),
  "fill-mask": (client) => client.fillMask({ inputs: "a [MASK] film" }),
  "image-classification": (client) => client.imageClassification({ data: picture }),
  "image-segmentation": (client) => client.imageSegmentation({ inputs: picture, parameters: { threshold: 0 } }),
  "image-to-image": (client) => client.imageToImage({ inputs: picture }),
  "image-to-text": (client) => client.imageToText({ data: picture }),
  "object-detection": (client) => client.objectDetection({ data: picture }),
  "question-answering": (client) =>
    client.questionAnswering({ inputs: { question: "who", context: "ada lives in london" } }),
  "sentence-similarity": (client) =>
    client.sentenceSimilarity({ inputs: { source_sentence: "a cat", sentences: ["a dog", "the market"] } }),
  summarization: (client) => client.summarization({ inputs: "a good film about a cat" }),
  "table-question-answering": (client) =>
    client.tableQuestionAnswering({
      inputs: { query: "how many", table: { actor: ["brad", "george"], age: ["56", "59"] } },
    }),
  "text-classification": (client) => client.textClassification({ inputs: "a good film" }),
  "text-to-audio": (client) => client.textToSpeech({ inputs: "a good film" }),
  "token-classification": (client) => client.tokenClassification({ inputs: "ada lives in london" }),
  translation: (client) => client.translation({ inputs: "a good film" }),
  "visual-question-answering": (client) =>
    client.visualQuestionAnswering({ inputs: { question: "what is it?", image: picture } }),
  "zero-shot-classification": (client) =>
    client.zeroShotClassification({ inputs: "a film", parameters: { candidate_labels: ["good", "bad"] } }),
  "zero-shot-image-classification": (client) =>
    client.zeroShotImageClassification({ inputs: { image: picture }, parameters: { candidate_labels: labels } }),
};

for (const task of tasks) {
  const client = new InferenceClient("none").endpoint(`${url}/v1/${task}`);
  try {
    const answer = await calls[task](client);
    const shown = answer instanceof Blob ? { blob: answer.type, size: answer.size } : answer;
    console.log(JSON.stringify({ task, answer: shown }));
  } catch (error) {
    console.log(JSON.stringify({ task, error: `${error.name}: ${error.message} ${JSON.stringify(error.httpResponse?.body ?? "")}` }));
  }
}
console.log(JSON.stringify({ known: Object.keys(calls) }));
