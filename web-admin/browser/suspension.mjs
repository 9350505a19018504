/**
 * An operator suspends a company in the middle of a chat: the visitor and the member are told, what the
 * visitor writes is kept, and it is answered once the company is back.
 */

import assert from 'node:assert/strict'
import { inBrowser, say, signIn, visit } from './browser.mjs'
import { chatOf, companyOf } from './people.mjs'
import { decide } from './platform.mjs'

const QUESTIONS = ['有没有玫瑰？', '有没有百合？', '多少钱一束？']
const ANSWERS = ['有，红的和白的。', '有，香水百合。', '九十九元。']

const WHY = '账单未付'

export async function suspension(there) {
  const { company, admin } = await companyOf(there)
  await inBrowser({}, async (operator) => {
    await signIn(operator, there.address, there.firstRun.operator)
    await operator.goto(there.address('/app/ops/tenants'))
    const row = operator.locator('tr', { hasText: company })
    await decide(operator, row, '通过')
    await row.getByText('正常').waitFor()
    const items = QUESTIONS.map((question, index) => ({ question, answer: ANSWERS[index] }))
    const url = await chatOf(there, admin, items)
    await inBrowser({}, (visitor) =>
      inBrowser({}, async (member) => {
        await chat(there, { visitor, member, admin, url })
        await decide(operator, row, '暂停', WHY)
        await whileSuspended(visitor, member)
        await decide(operator, row, '恢复')
        await afterwards(visitor, member)
      }),
    )
  })
}

async function chat(there, { visitor, member, admin, url }) {
  await visit(visitor, there, QUESTIONS[0], url)
  await visitor.waitForSelector(`.row.bot:has-text("${ANSWERS[0]}")`)
  await signIn(member, there.address, admin)
  await member.goto(there.address('/app/inbox'))
  await member.click('.list .row')
  await member.waitForSelector(`.message.bot:has-text("${ANSWERS[0]}")`)
}

async function whileSuspended(visitor, member) {
  await visitor.waitForSelector('.notice:has-text("服务暂停中。您的消息会保留")')
  await member.waitForSelector('.banner:has-text("已暂停")')
  for (const question of QUESTIONS.slice(1)) {
    await say(visitor, question)
    // Kept: the page may forget it now.
    await visitor.waitForSelector(`.row.visitor:has-text("${question}"):has-text("已送达")`)
  }
  await member.keyboard.press('t')
  await member.waitForSelector('.thread .problem:has-text("已暂停")')
  await member.click('.banner a')
  await member.waitForSelector('.head:has-text("已暂停")')
  await member.getByText(WHY).waitFor()
  await member.goBack()
  await member.waitForSelector('.thread .message.bot')
  const heard = await visitor.locator('.row.bot').allInnerTexts()
  assert.equal(heard.length, 1, `the bot spoke for a suspended company: ${heard}`)
}

async function afterwards(visitor, member) {
  await visitor.locator('.notice', { hasText: '服务暂停中' }).waitFor({ state: 'hidden' })
  for (const answer of ANSWERS) await visitor.waitForSelector(`.row.bot:has-text("${answer}")`)
  await member.click('.banner button')
  await member.locator('.banner').waitFor({ state: 'detached' })
  for (const words of [...QUESTIONS, ...ANSWERS]) {
    const message = member.locator('.thread .message', { hasText: words })
    await message.first().waitFor()
    assert.equal(await message.count(), 1, words)
  }
  await member.keyboard.press('t')
  await member.fill('.composer textarea', '让您久等了。')
  await member.press('.composer textarea', 'Enter')
  await visitor.waitForSelector('text=让您久等了。')
  const heard = await visitor.locator('.row .bubble').allInnerTexts()
  const said = heard.map((text) => text.trim()).filter((text) => QUESTIONS.includes(text))
  assert.deepEqual(said, QUESTIONS)
}
