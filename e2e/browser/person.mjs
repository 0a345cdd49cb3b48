// A person at a browser, who knows the pages of Cinny.

import path from "node:path";

/** Opens a browser context of its own, as a person on a computer of their own has. */
export async function sitDown(browser, name, pages, folder, traffic) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, locale: "en-GB" });
    context.setDefaultTimeout(30000);
    traffic.watch(name, context);
    const page = await context.newPage();
    return new Person(name, context, page, pages, folder);
}

class Person {
    constructor(name, context, page, pages, folder) {
        Object.assign(this, { name, context, page, pages, folder });
    }

    /** Keeps what is on the screen as a picture. */
    async shoot(what) {
        const number = String((shots += 1)).padStart(2, "0");
        await this.page.screenshot({ path: path.join(this.folder, `${number}-${this.name.toLowerCase()}-${what}.png`) });
    }

    /** Fills in a form for an account, to log in or to sign up, and waits until the client is there. */
    async enter(form, username, password) {
        await this.page.goto(`${this.pages}/${form}/`);
        await this.page.locator("input[name=usernameInput]").fill(username);
        await this.page.locator("input[name=passwordInput]").fill(password);
        if (form === "register") await this.page.locator("input[name=confirmPasswordInput]").fill(password);
        await this.shoot(form);
        await this.page.locator("button[type=submit]").click();
        await this.arrived();
    }

    /** Waits until the client shows the person's rooms. */
    async arrived() {
        await this.page.getByText("Create Room").first().waitFor();
    }

    /** Makes a room, private and encrypted as the client's form proposes, or public with an address; then the person is in it. */
    async createRoom(name, address) {
        await this.page.getByText("Create Room").first().click();
        if (address) {
            await this.page.locator("form.create-room__form").getByRole("button", { name: "Private" }).click();
            await this.page.getByText("Public (anyone can join)").click();
            await this.page.getByPlaceholder("my_address").fill(address);
        }
        await this.page.locator("form.create-room__form input[name=name]").fill(name);
        await this.shoot("new-room");
        await this.page.getByRole("button", { name: "Create", exact: true }).click();
        await this.opened(name);
    }

    /** Follows a link to a public room, looks at what it is, and joins it. */
    async joinByAddress(address, name) {
        await this.page.goto(`${this.pages}/home/${encodeURIComponent(address)}/`);
        await this.page.getByText(name, { exact: true }).waitFor();
        await this.shoot("preview");
        await this.page.getByRole("button", { name: "Join", exact: true }).click();
        await this.opened(name);
    }

    /** Waits until a room is open, ready to be written in. */
    async opened(name) {
        await this.page.locator("header", { hasText: name }).first().waitFor();
        await this.composer().waitFor();
    }

    /** Opens a room that is in the list. */
    async open(name) {
        await this.page.getByRole("link", { name }).or(this.page.locator("nav, [data-sortable]").getByText(name)).first().click();
        await this.opened(name);
    }

    composer() {
        return this.page.locator("[data-slate-editor=true]");
    }

    /** Invites somebody to the room that is open. */
    async invite(userId) {
        await this.page.getByRole("button", { name: "Invite Member" }).first().click();
        await this.page.getByLabel("Name or userId").or(this.page.locator(".invite-user__form input")).first().fill(userId);
        await this.page.locator(".invite-user__form button[type=submit]").click();
        await this.page.locator(".invite-user__content").getByRole("button", { name: "Invite", exact: true }).click();
        await this.page.getByText(/invited/i).first().waitFor();
        await this.shoot("invites");
        await this.page.getByRole("button", { name: "Close" }).or(this.page.locator(".ReactModalPortal .ic-btn")).first().click();
        await this.page.locator(".ReactModalPortal .dialog").waitFor({ state: "detached" });
    }

    /** Accepts the only invitation, once it is there. */
    async accept(room) {
        await this.page.goto(`${this.pages}/inbox/invites/`);
        await this.page.getByText(room).first().waitFor();
        await this.shoot("invited");
        await this.page.getByRole("button", { name: "Accept" }).click();
        await this.opened(room);
    }

    async say(text) {
        await this.composer().click();
        await this.page.keyboard.type(text);
        await this.page.keyboard.press("Enter");
    }

    /**
     * Waits until a message is to be read in the room that is open. Cinny sends what is
     * encrypted with a new key at the same time as the key, and where that comes second
     * does not always show what it has decrypted by then: one loads the page anew.
     */
    async reads(text) {
        const message = this.page.locator("[data-message-id]", { hasText: text }).first();
        try {
            await message.waitFor({ timeout: 10000 });
        } catch {
            await this.page.reload();
            await message.waitFor();
        }
    }

    /** Sends a picture to the room that is open, by the button for files. */
    async sendPicture(name, data) {
        const chooser = this.page.waitForEvent("filechooser");
        await this.composer().locator("xpath=ancestor::*[.//button][1]").locator("button").first().click();
        await (await chooser).setFiles({ name, mimeType: "image/png", buffer: data });
        await this.page.getByRole("button", { name: "Send", exact: true }).click();
    }

    /** Waits until a picture is shown in the room that is open, and tells its real width and height. */
    async sees(name) {
        const picture = this.page.locator(`[data-message-id] img[alt="${name}"]`).last();
        await picture.waitFor();
        await picture.scrollIntoViewIfNeeded();
        return picture.evaluate(async (img) => {
            await img.decode();
            return [img.naturalWidth, img.naturalHeight];
        });
    }

    /** Makes a picture the person's own. */
    async setAvatar(name, data) {
        await this.page.locator("button", { hasText: /^[a-z]$/i }).last().click();
        await this.page.locator(".img-upload__wrapper input[type=file]").setInputFiles({ name, mimeType: "image/png", buffer: data });
        await this.page.locator(".img-upload__wrapper img").waitFor();
        await this.shoot("avatar");
        await this.page.keyboard.press("Escape");
        await this.page.locator(".ReactModalPortal .img-upload__wrapper").waitFor({ state: "detached" });
    }

    /** Waits until a member of the room that is open is shown with a picture, and tells its real width and height. */
    async seesAvatar(of) {
        const picture = this.page.locator("[data-user-id] img, img").and(this.page.locator(`img[alt="${of}"]`)).first();
        await picture.waitFor();
        return picture.evaluate(async (img) => {
            await img.decode();
            return [img.naturalWidth, img.naturalHeight];
        });
    }

    async reload() {
        await this.page.reload();
        await this.arrived();
    }
}

let shots = 0;
