/** A visitor writes; a member sees it come, takes over, answers in words and with a picture. */

import assert from 'node:assert/strict'
import { inBrowser, signIn, visit } from './browser.mjs'

const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

export async function reply(there) {
  await inBrowser({}, async (member) => {
    await signIn(member, there.address, there.firstRun.demo)
    await member.goto(there.address('/app/inbox'))
    await member.waitForSelector('.list .row, .list .state strong')
    const before = await member.locator('.list .row').count()
    await inBrowser({}, async (visitor) => {
      await visit(visitor, there, '你们几点开门？')
      // By itself, without a reload.
      await member.waitForFunction((count) => document.querySelectorAll('.list .row').length > count, before)
      await visitor.waitForSelector('.row.bot')
      await takeOver(member)
      await answer(member, visitor)
      await sendPicture(member)
    })
  })
}

async function takeOver(member) {
  await member.keyboard.press('j')
  await member.waitForSelector('.thread .message.bot')
  await member.keyboard.press('t')
  await member.waitForSelector('.composer textarea')
}

async function answer(member, visitor) {
  await member.keyboard.press('r')
  await member.waitForFunction(() => document.activeElement?.tagName === 'TEXTAREA')
  await member.keyboard.type('您好，我是<b>小王</b>。')
  // Enter belongs to the input method while it composes.
  await member.locator('.composer textarea').dispatchEvent('keydown', { key: 'Enter', isComposing: true })
  assert.equal(await member.inputValue('.composer textarea'), '您好，我是<b>小王</b>。')
  await member.reload()
  await member.waitForSelector('.composer textarea')
  // The draft has outlived the page.
  assert.equal(await member.inputValue('.composer textarea'), '您好，我是<b>小王</b>。')
  await member.press('.composer textarea', 'Enter')
  await visitor.waitForSelector('text=您好，我是<b>小王</b>。')
  await member.waitForSelector('.message.human .mark:has-text("已送达平台")')
  await member.click('.message.human .mark')
  await member.waitForSelector('.delivery li:has-text("第 1 次")')
  await member.keyboard.press('Escape')
  await member.waitForSelector('.delivery', { state: 'hidden' })
  assert.equal(await member.locator('.message b').count(), 0, 'text became HTML')
  assert.equal(await member.inputValue('.composer textarea'), '')
}

async function sendPicture(member) {
  await member.setInputFiles('.composer input[type=file]', { name: 'dot.png', mimeType: 'image/png', buffer: PIXEL })
  await member.waitForSelector('.files li:has-text("dot.png")')
  await member.click('.composer [type=submit]')
  await member.waitForFunction(() => (document.querySelector('.message.human img')?.naturalWidth ?? 0) > 0)
}
