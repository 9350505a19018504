"use strict";
const $ = (id) => document.getElementById(id);

function add(side, about, words) {
  const item = document.createElement("article");
  item.className = side;
  const head = document.createElement("small");
  head.textContent = about;
  const text = document.createElement("span");
  text.textContent = words;
  item.append(head, text);
  $("talk").append(item);
  item.scrollIntoView({ block: "end" });
}

async function post(path, order) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(order),
  });
  return answer.json();
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

const events = new EventSource("events");
const online = (is) => {
  $("line").className = is ? "on" : "off";
  $("line").textContent = is ? "模拟平台运行中 · running" : "已断开 · not running";
};

events.addEventListener("stage", (event) => {
  online(true);
  $("kind").textContent = JSON.parse(event.data).kind;
  // The line was open before: all that was shown comes once more.
  document.querySelectorAll("#talk .shown").forEach((item) => item.remove());
});
events.addEventListener("shown", (event) => {
  const shown = JSON.parse(event.data);
  const where = shown.chat || shown.user;
  const words = shown.text || `[${shown.type}]`;
  add("shown", `→ ${where} · ${shown.type}${shown.id ? " · " + shown.id : ""}`, words);
});
events.onerror = () => online(false);

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [file] = $("picture").files;
  const line = {
    user: $("user").value,
    chat: $("chat").value,
    mentions: $("mentions").checked,
    quotes: $("quotes").value,
    text: file ? "" : $("text").value,
    picture: file ? await base64(file) : "",
  };
  if (!line.text && !file) return;
  add("said", line.chat ? `${line.user} @ ${line.chat}` : line.user, file ? `[${file.name}]` : line.text);
  $("text").value = "";
  $("picture").value = "";
  const answer = await post("say", line);
  $("state").textContent = answer.acknowledged
    ? "已被接收 · taken"
    : answer.error || "没有被接收，平台还留着 · not taken; the platform keeps it";
});
document.querySelectorAll("[data-do]").forEach((button) =>
  button.addEventListener("click", async () => {
    await post("do", { what: button.dataset.do });
    $("state").textContent = `${button.textContent} ✓`;
  }),
);
