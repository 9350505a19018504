/**
 * Two members at one conversation: a note that calls a colleague, a canned reply with the names put in,
 * a tag, a hand-over with its note; the customer is told nothing of it but the reply.
 */

import assert from 'node:assert/strict'
import { inBrowser, signIn, visit } from './browser.mjs'
import { colleagueOf, deskOf } from './people.mjs'

export async function desk(there) {
  const demo = there.firstRun.demo
  const { canned, tag } = await deskOf(there, demo)
  const colleague = await colleagueOf(there, demo)
  await inBrowser({}, async (visitor) => {
    await visit(visitor, there, '我的订单在哪里？')
    await visitor.waitForSelector('.row.bot')
    await inBrowser({}, async (member) => {
      await signIn(member, there.address, demo)
      await member.goto(there.address('/app/inbox'))
      await takeOver(member)
      await note(member, colleague)
      await reply(member, visitor, canned)
      await label(member, tag)
      await inBrowser({}, async (other) => {
        await signIn(other, there.address, colleague)
        await other.goto(there.address('/app/inbox/mentions'))
        await other.waitForSelector('.list .row .badge:has-text("@")')
        await handOver(member, colleague)
        await receive(other, colleague, tag)
        await comeBack(other, visitor)
        await answerBlindly(other, visitor)
      })
    })
    const heard = await visitor.locator('body').innerText()
    for (const secret of [NOTE, HAND_OVER, tag.name]) assert.ok(!heard.includes(secret), secret)
  })
}

const NOTE = '客户很着急'
const HAND_OVER = '请查一下物流'

async function takeOver(member) {
  await member.waitForSelector('.list .row')
  await member.keyboard.press('j')
  await member.waitForSelector('.thread .message.bot')
  await member.keyboard.press('t')
  await member.waitForSelector('.composer textarea')
}

/** By keys alone: `n`, the name out of the list, Enter. */
async function note(member, { name }) {
  await member.keyboard.press('n')
  await member.waitForFunction(() => document.activeElement?.closest('form.note') !== null)
  await member.keyboard.type(`${NOTE} @${name.split(' ')[1]}`)
  await member.waitForSelector(`[role=option]:has-text("${name}")`)
  await member.keyboard.press('Enter')
  await member.waitForFunction((text) => document.activeElement?.value.includes(text), `@${name} `)
  await member.keyboard.press('Enter')
  await member.waitForSelector(`article.note:has-text("${NOTE} @${name}")`)
}

async function reply(member, visitor, { code, said }) {
  await member.keyboard.press('Escape')
  await member.keyboard.press('r')
  await member.waitForFunction(() => document.activeElement?.closest('form.composer') !== null)
  await member.keyboard.type(`/${code}`)
  await member.waitForSelector(`[role=option]:has-text("/${code}")`)
  await member.keyboard.press('Enter')
  await member.waitForFunction((text) => document.activeElement?.value === text, said)
  await member.keyboard.press('Enter')
  await visitor.waitForSelector(`text=${said}`)
}

async function label(member, { id, name }) {
  await member.keyboard.press('Escape')
  await member.keyboard.press('i')
  await member.waitForSelector('.contact')
  await member.selectOption('.contact .of-conversation select', id)
  await member.waitForSelector(`.list .row.selected .chip:has-text("${name}")`)
}

async function handOver(member, { name }) {
  await member.keyboard.press('h')
  await member.click(`.transfer label:has-text("${name}")`)
  await member.fill('.transfer textarea', HAND_OVER)
  await member.click('.el-dialog [type=submit]')
  await member.waitForSelector(`.event:has-text("${HAND_OVER}")`)
  // It is the colleague's now.
  await member.waitForSelector('.composer', { state: 'detached' })
}

async function receive(other, { name }, tag) {
  await other.keyboard.press('1')
  await other.waitForSelector(`.list .row .chip:has-text("${tag.name}")`)
  await other.click('.list .row')
  await other.waitForSelector(`.event:has-text("${name}")`)
  await other.waitForSelector(`article.note:has-text("${NOTE}")`)
  // Looked at, it is unread no more, and the note has been seen.
  await other.waitForSelector('.list .row.selected:not(:has(.badge))')
}

/** What was said while somebody looked elsewhere is counted, and marked in the thread. */
async function comeBack(other, visitor) {
  await other.keyboard.press('Escape')
  await other.keyboard.press('6')
  await other.waitForSelector('.thread', { state: 'detached' })
  await other.keyboard.press('1')
  await visitor.fill('textarea', '还在吗？')
  await visitor.press('textarea', 'Enter')
  await other.waitForSelector('.list .row .badge:has-text("1")')
  await other.click('.list .row')
  await other.waitForSelector('.log [role=separator]')
  await other.waitForSelector('.list .row.selected:not(:has(.badge))')
}

/** As from somebody who had not seen that a colleague answered: refused, until they insist. */
async function answerBlindly(other, visitor) {
  const path = /\/conversations\/[^/]+\/messages$/
  await other.route(path, (route) => {
    const body = { ...route.request().postDataJSON(), seen_number: 1 }
    return route.continue({ postData: JSON.stringify(body) })
  }, { times: 1 })
  await other.keyboard.press('r')
  await other.waitForFunction(() => document.activeElement?.closest('form.composer') !== null)
  await other.keyboard.type('请稍等，正在查询。')
  await other.keyboard.press('Enter')
  await other.click('.failed button:has-text("仍然发送")')
  await visitor.waitForSelector('text=请稍等，正在查询。')
  await other.waitForSelector('.failed', { state: 'detached' })
}
