/** Stands in for who runs models: an answer is begun, held and ended as the scene says. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'

/** Runs the walk beside a model; `await model.asked()` gives the next question, which waits for its answer. */
export async function withModel(walk) {
  const questions = []
  const waiting = []
  const server = createServer(async (request, response) => {
    if (request.method === 'GET') return response.end('{"data":[]}')
    const said = await json(request)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const question = new Question(said, response)
    const next = waiting.shift()
    if (next) next(question)
    else questions.push(question)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const url = `http://127.0.0.1:${server.address().port}/v1`
    const asked = () => questions.shift() ?? new Promise((resolve) => waiting.push(resolve))
    return await walk({ url, asked })
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

class Question {
  #response

  constructor(said, response) {
    this.model = said.model
    this.messages = said.messages
    this.#response = response
    this.#write([{ index: 0, delta: { role: 'assistant', content: '' } }])
  }

  say(content) {
    this.#write([{ index: 0, delta: { content } }])
  }

  /** What is left of the answer; an asker who has gone does not hear it. */
  end(content) {
    this.say(content)
    this.#write([{ index: 0, delta: {}, finish_reason: 'stop' }])
    this.#write([], { usage: { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 } })
    this.#response.end('data: [DONE]\n\n')
  }

  /** The line is cut in the middle of the answer. */
  fail() {
    this.#response.destroy()
  }

  #write(choices, more = {}) {
    this.#response.write(`data: ${JSON.stringify({ id: '1', object: 'chat.completion.chunk', choices, ...more })}\n\n`)
  }
}
