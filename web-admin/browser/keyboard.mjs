/** A member's work from the sign-in to the end of a conversation, with keys alone. */

import assert from 'node:assert/strict'
import { inBrowser, say, visit } from './browser.mjs'
import { callerFor, deskOf } from './people.mjs'

export async function keyboard(there) {
  const demo = there.firstRun.demo
  const { canned } = await deskOf(there, demo)
  const call = await callerFor(there, demo)
  await inBrowser({}, async (visitor) => {
    await visit(visitor, there, '你们几点开门？')
    await visitor.waitForSelector('.row.bot')
    const id = (await call('GET', '/conversations?limit=1')).items[0].id
    await inBrowser({}, async (member) => {
      await member.addInitScript(() => {
        addEventListener('pointerdown', () => { throw new Error('a pointer was used') }, { capture: true })
      })
      const broken = []
      member.on('pageerror', (error) => broken.push(error.message))
      await enter(member, there, demo)
      await find(member, id)
      await answer(member, visitor, canned)
      await handBack(member, visitor)
      await close(member, visitor)
      assert.deepEqual(broken, [])
    })
  })
}

async function enter(member, { address }, { email, password }) {
  await member.goto(address('/app/sign-in'))
  await member.waitForSelector('[name=email]:focus')
  await member.keyboard.type(email)
  await member.keyboard.press('Tab')
  await member.keyboard.type(password)
  await member.keyboard.press('Enter')
  await member.waitForSelector('nav')
}

/** The palette opens the inbox, a key its view, `j` one conversation after the other. */
async function find(member, id) {
  await member.keyboard.press('Control+k')
  await member.waitForSelector('[role=combobox]:focus, dialog input:focus')
  await member.keyboard.type('收件箱')
  await member.waitForSelector('[role=option]:has-text("收件箱")')
  await member.keyboard.press('Enter')
  await member.waitForSelector(`.list .row[href$="${id}"]`)
  await member.keyboard.press('?')
  await member.waitForSelector('dialog dl')
  await member.keyboard.press('Escape')
  await member.waitForSelector('dialog', { state: 'detached' })
  const rows = await member.locator('.list .row').count()
  for (let row = 0; row < rows && !member.url().endsWith(id); row += 1) {
    const before = member.url()
    await member.keyboard.press('j')
    await member.waitForURL((url) => url.href !== before)
  }
  await member.waitForSelector('.thread .message.bot')
}

async function answer(member, visitor, { code, said }) {
  await member.keyboard.press('t')
  await member.waitForSelector('.composer textarea')
  await member.keyboard.press('r')
  await member.waitForSelector('.composer textarea:focus')
  await member.keyboard.type(`/${code}`)
  await member.waitForSelector(`[role=option]:has-text("/${code}")`)
  await member.keyboard.press('Enter')
  await member.waitForFunction((text) => document.activeElement?.value === text, said)
  await member.keyboard.press('Enter')
  await visitor.waitForSelector(`text=${said}`)
  await member.keyboard.press('Escape')
  await member.waitForSelector('.composer textarea:not(:focus)')
}

async function handBack(member, visitor) {
  await member.keyboard.press('b')
  await member.waitForSelector('.composer', { state: 'detached' })
  await say(visitor, '你们在哪里？')
  await visitor.waitForSelector('.row.bot:has-text("人民路")')
  await member.waitForSelector('.thread .message.bot:has-text("人民路")')
}

async function close(member, visitor) {
  await member.keyboard.press('e')
  await visitor.waitForSelector('text=会话已结束')
  await member.waitForSelector('.bar:has-text("已结束")')
}
