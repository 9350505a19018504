import { inBrowser, signIn, visit, place } from './browser/browser.mjs'
const there = place('http://127.0.0.1:18945', '/tmp/desk-data/first-run.json')
const S='/tmp/desk-shots/'
async function shoot(page,name){ for (const c of ['light','dark']) { await page.emulateMedia({colorScheme:c}); await page.screenshot({path:`${S}${name}-${c}.png`,animations:'disabled'}) } }
await inBrowser({}, async (member) => {
  member.on('console', m=>{ if(['error','warning'].includes(m.type())) console.log('member:',m.text())}); member.on('pageerror',e=>console.log('member pageerror',e.message))
  await signIn(member, there.address, there.firstRun.demo)
  await inBrowser({}, async (visitor) => {
    await visit(visitor, there, '消息 0 关于玫瑰花束 ABC')
    await visitor.waitForSelector('.row.bot')
    for (let n=1;n<140;n++){ await visitor.fill('textarea', `消息 ${n}`); await visitor.press('textarea','Enter'); if (n%5===0) await visitor.waitForTimeout(300) }
    await visitor.waitForFunction(()=>document.querySelectorAll('.row.sending').length===0,null,{timeout:90000})
    await member.goto(there.address('/app/search'))
    await member.waitForSelector('form[role=search]')
    await shoot(member,'search-empty')
    await member.keyboard.type('玫瑰花束 abc'); await member.keyboard.press('Enter')
    await member.waitForSelector('mark'); await shoot(member,'search')
    console.log('mark', await member.textContent('mark'))
    await member.click('ol li a')
    await member.waitForSelector('.found'); await member.waitForTimeout(600)
    await shoot(member,'jump')
    console.log('url', member.url(), 'visible', await member.locator('.found').isVisible(), await member.locator('.found').boundingBox())
    // scroll to end by wheel
    const log = member.locator('.thread [role=log]')
    for (let i=0;i<30;i++){ await log.evaluate(e=>{e.scrollTop=e.scrollHeight}); await member.waitForTimeout(150) }
    const texts = await member.locator('.thread .message').allTextContents(); console.log('end:', texts.at(-1)?.slice(0,60))
    await member.goBack(); await member.waitForSelector('mark'); await member.click('ol li a'); await member.waitForSelector('.found')
    await member.click('button.newest'); await member.waitForTimeout(800)
    console.log('newest:', (await member.locator('.thread .message').allTextContents()).at(-1)?.slice(0,60), await member.locator('button.newest').count())
    await member.goto(there.address('/app/contacts')); await member.waitForSelector('.contacts .row'); await member.keyboard.press('j'); await member.waitForSelector('.contact h2'); await member.waitForTimeout(400); await shoot(member,'contacts')
    await member.setViewportSize({width:390,height:780}); await shoot(member,'contact-phone'); await member.click('.close'); await member.waitForTimeout(300); await shoot(member,'contacts-phone'); await member.goto(there.address('/app/search')); await member.waitForSelector('form[role=search]'); await shoot(member,'search-phone')
  })
})
