/**
 * A member takes over while the bot's model is thinking, talking, or just done: behind that no bot
 * message is made or sent, the visitor hears the member only, and what the model said is kept.
 */

import assert from 'node:assert/strict'
import { inBrowser, signIn, visit } from './browser.mjs'
import { withModel } from './model.mjs'
import { callerFor, modelOf } from './people.mjs'

const QUESTION = '能帮我修一下自行车吗？'
const BEGUN = '我们九点'
const REST = '开门，欢迎带车过来。'
const REPLY = '您好，这个我来处理。'

/** A delivery of the bot's that no later moment changes. */
const FINAL = new Set(['sent', 'withheld'])

const MOMENTS = {
  thinking: { before: () => undefined, after: (question) => question.end(BEGUN + REST) },
  talking: { before: (question) => question.say(BEGUN), after: (question) => question.end(REST) },
  // Who is first is chance: both ends must be good ones.
  done: { before: (question) => question.end(BEGUN + REST), after: () => undefined },
}

export async function takeover(there) {
  const demo = there.firstRun.demo
  await withModel(async (model) => {
    await modelOf(there, demo, model)
    const call = await callerFor(there, demo)
    await inBrowser({}, async (member) => {
      const events = eventsOf(member)
      await signIn(member, there.address, demo)
      await member.goto(there.address('/app/inbox'))
      await member.waitForSelector('.list .row, .list .state strong')
      for (const [name, moment] of Object.entries(MOMENTS)) {
        await inBrowser({}, (visitor) => once(there, { name, moment, model, member, visitor, events, call }))
      }
    })
  })
}

async function once(there, { name, moment, model, member, visitor, events, call }) {
  await visit(visitor, there, QUESTION)
  const question = await model.asked()
  const id = (await call('GET', '/conversations?limit=1')).items[0].id
  await member.click(`.list .row[href$="${id}"]`)
  await member.waitForSelector('.thread .message.theirs')
  moment.before(question)
  await member.keyboard.press('t')
  await member.waitForSelector('.composer textarea')
  const taken = await events.first(id, ({ type, data }) => type === 'conversation.owner_changed' && data.owner === 'human')
  moment.after(question)
  await events.first(id, ({ type }) => type === 'turn.ended')
  await member.fill('.composer textarea', REPLY)
  await member.press('.composer textarea', 'Enter')
  await visitor.waitForSelector(`text=${REPLY}`)
  const late = events.of(id).filter(({ seq, type, data }) => seq > taken.seq && type === 'message.created' && data.sender.kind === 'bot')
  assert.deepEqual(late, [], name)
  await settled(visitor, { name, id, call })
}

/** What was made of the model's answer: all of it was sent before, or nothing ever will be. */
async function settled(visitor, { name, id, call }) {
  const deliveries = (await call('GET', `/deliveries?conversation_id=${id}`)).items.filter(({ author }) => author === 'bot')
  const [turn] = (await call('GET', `/conversations/${id}/turns`)).items
  const heard = await visitor.locator('.row.bot').allInnerTexts()
  if (deliveries.length === 0) assert.equal(turn.suggestion, BEGUN + REST, name)
  else assert.equal(name, 'done', 'the bot spoke behind a take-over')
  const sent = deliveries.filter(({ state }) => state === 'sent')
  assert.deepEqual([...new Set(deliveries.map(({ state }) => state))].filter((state) => !FINAL.has(state)), [], name)
  assert.equal(heard.filter((text) => text.includes(BEGUN)).length, sent.length, name)
}

/** The stream as the member's own page hears it. */
function eventsOf(page) {
  const heard = []
  const asked = new Set()
  page.on('websocket', (socket) => {
    socket.on('framereceived', ({ payload }) => {
      const { seq, event, type } = JSON.parse(payload)
      if (type !== 'event') return
      heard.push({ seq, ...event })
      for (const look of asked) look()
    })
  })
  const of = (id) => heard.filter(({ data }) => data.conversation_id === id)
  const first = (id, isIt) =>
    new Promise((resolve) => {
      const look = () => {
        const found = of(id).find(isIt)
        if (!found) return
        asked.delete(look)
        resolve(found)
      }
      asked.add(look)
      look()
    })
  return { of, first }
}
